"""Base models, runs and models by API: reading, starting a run, merging."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import APIException
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from datanets.models import Version
from governance.selectors import current_parameters
from ledger.errors import LedgerError
from modelfactory import lineage, selectors
from modelfactory.errors import ModelError, RunError
from modelfactory.models import BaseModel, Model, Run, RunEvent
from modelfactory.parents import SHAPE, recipe_from
from modelfactory.services import drafts, publishing, runs
from modelfactory.services.merging import start_merge
from modelfactory.training.recipe import Recipe, RecipeError


class BaseModelSerializer(serializers.ModelSerializer[BaseModel]):
    class Meta:
        model = BaseModel
        fields = (
            "id", "slug", "name", "state", "source", "architecture", "weights_sha256",
            "context_length", "parameters", "licence", "failure_reason", "created_at",
        )  # fmt: skip


class RunVersionSerializer(serializers.Serializer[Any]):
    datanet = serializers.SlugField(source="version.datanet.slug")
    number = serializers.IntegerField(source="version.number")
    root: Any = serializers.CharField(source="version.root")
    weight = serializers.IntegerField()


class ParentSerializer(serializers.Serializer[Any]):
    """A model that a run starts from; weights in basis points make 10,000."""

    model = serializers.SlugField(source="model.slug")
    weight = serializers.IntegerField()


class RunSerializer(serializers.ModelSerializer[Run]):
    builder: Any = serializers.SlugField(source="builder.handle", read_only=True)
    base_model: Any = serializers.SlugRelatedField(slug_field="slug", read_only=True)
    versions = RunVersionSerializer(source="run_versions", many=True, read_only=True)
    parents = ParentSerializer(many=True, read_only=True)
    model: Any = serializers.SlugRelatedField(slug_field="slug", read_only=True)
    queue_position = serializers.SerializerMethodField()
    result = serializers.SerializerMethodField()

    class Meta:
        model = Run
        fields = (
            "id", "kind", "name", "goal", "state", "builder", "base_model", "versions", "parents",
            "recipe", "device", "dtype", "step", "steps", "queue_position", "failure_reason",
            "result", "model", "queued_at", "started_at", "finished_at", "created_at",
        )  # fmt: skip

    def get_queue_position(self, run: Run) -> int:
        return selectors.queue_position(run)

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_result(self, run: Run) -> dict[str, Any]:
        """Figures without the held-out texts."""
        return run.result and {**run.result, "evaluation": _figures(run.result["evaluation"])}


class RunEventSerializer(serializers.ModelSerializer[RunEvent]):
    class Meta:
        model = RunEvent
        fields = ("sequence", "kind", "step", "data", "at")


class ModelAncestorSerializer(serializers.Serializer[Any]):
    """A model above another; `percent` of the owner's part of a fee passes on to its owner."""

    model = serializers.SlugField(source="model.slug")
    owner = serializers.SlugField(source="model.owner.handle")
    state = serializers.CharField(source="model.state")
    generation = serializers.IntegerField()
    percent = serializers.FloatField()


class ModelSerializer(serializers.ModelSerializer[Model]):
    owner = serializers.SlugField(source="owner.handle", read_only=True)
    base_model: Any = serializers.SlugRelatedField(slug_field="slug", read_only=True)
    evaluation = serializers.SerializerMethodField()
    ancestry = serializers.SerializerMethodField()

    class Meta:
        model = Model
        fields = (
            "id", "slug", "name", "summary", "state", "owner", "base_model", "run", "ancestry",
            "adapter_sha256", "adapter_bytes", "manifest", "manifest_sha256", "evaluation",
            "licence", "input_price", "output_price", "stakers_bps", "statement", "published_at",
            "created_at",
        )  # fmt: skip

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_evaluation(self, model: Model) -> dict[str, Any]:
        """Figures without the held-out texts."""
        return _figures(model.evaluation)

    @extend_schema_field(ModelAncestorSerializer(many=True))
    def get_ancestry(self, model: Model) -> list[dict[str, Any]]:
        """The models that it was made from, nearest first."""
        found = lineage.ancestry(model, current_parameters())
        return list(ModelAncestorSerializer(found, many=True).data)


class VersionBody(serializers.Serializer[Any]):
    datanet = serializers.SlugField()
    number = serializers.IntegerField(min_value=1)
    weight = serializers.IntegerField(min_value=1, max_value=10, default=1)


class RunBody(serializers.Serializer[Any]):
    """A run as the wizard would put it together. `parent` is the slug of a published model, whose
    adapter it starts from; without one, `base_model` is needed."""

    name = serializers.CharField(max_length=80)
    goal = serializers.CharField(max_length=2_000, default="")
    base_model = serializers.SlugField(required=False)
    parent: Any = serializers.SlugField(required=False)
    versions = VersionBody(many=True)
    recipe = serializers.DictField(required=False)


class MergedBody(serializers.Serializer[Any]):
    model = serializers.SlugField()
    weight = serializers.IntegerField(min_value=1, max_value=10_000)


class MergeBody(serializers.Serializer[Any]):
    """Published models of one base with weights in basis points, which make 10,000."""

    name = serializers.CharField(max_length=80)
    goal = serializers.CharField(max_length=2_000, default="")
    parents = MergedBody(many=True)


class StakersBody(serializers.Serializer[Any]):
    """The part of what the owner keeps of each fee, for those who staked on the model."""

    basis_points = serializers.IntegerField(min_value=0, max_value=10_000)


class Refused(APIException):
    """A refusal of a service as the API says it."""

    def __init__(self, code: str, message: str, status: int = 409) -> None:
        super().__init__(message, code=code)
        self.status_code = status


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (RunError, ModelError) as error:
        raise Refused(error.code, error.message) from error
    except LedgerError as error:
        raise Refused(error.code, error.message) from error
    except RecipeError as error:
        raise Refused("RECIPE", str(error), 422) from error


def _figures(evaluation: dict[str, Any]) -> dict[str, Any]:
    """An evaluation without its samples: they hold records that not every reader may see."""
    figures = {k: v for k, v in evaluation.items() if not isinstance(v, dict | list)}
    answers = evaluation.get("answers", {})
    return figures | {k: v for k, v in answers.items() if k != "samples"}


class BaseModelViewSet(viewsets.ReadOnlyModelViewSet[BaseModel]):
    queryset = BaseModel.objects.all()
    serializer_class = BaseModelSerializer
    lookup_field = "slug"


class RunViewSet(viewsets.ReadOnlyModelViewSet[Run]):
    """Runs that one may read; drafts are the wizard's own."""

    queryset = Run.objects.none()
    serializer_class = RunSerializer
    filterset_fields = ("state",)

    def get_queryset(self) -> Any:
        visible = Run.objects.visible_to(self.request.user).exclude(state=Run.State.DRAFT)
        return visible.select_related("builder", "base_model", "model").prefetch_related(
            "run_versions__version__datanet", "parents__model"
        )

    @extend_schema(request=RunBody, responses={201: RunSerializer})
    def create(self, request: Request) -> Response:
        """Put a run together and start it; it waits for a worker."""
        body = RunBody(data=request.data)
        body.is_valid(raise_exception=True)
        user: Any = request.user
        wish: dict[str, Any] = dict(body.validated_data)
        parent = base = None
        if "parent" in wish:
            published = Model.objects.published().select_related("base_model", "run")
            parent = get_object_or_404(published, slug=wish["parent"])
            base = parent.base_model
        if "base_model" in wish:
            base = get_object_or_404(BaseModel.objects.ready(), slug=wish["base_model"])
        if base is None:
            raise Refused("BASE", "Name a base_model, or a parent to start from.", 400)
        if parent is not None and base.pk != parent.base_model_id:
            said = f"{parent.name} is an adapter of {parent.base_model.name}, not of {base.name}."
            raise Refused("PARENT", said)
        with _refusals(), transaction.atomic():
            run = drafts.create_run(
                name=wish["name"],
                goal=wish["goal"],
                base_model=base,
                versions=[_wished(one, user) for one in wish["versions"]],
                recipe=_shaped(wish.get("recipe"), parent),
                parent=parent,
                acting_user=user,
                at=timezone.now(),
            )
            started = runs.start_run(run=run, acting_user=user, at=timezone.now())
        return Response(self.get_serializer(started).data, status=201)

    @extend_schema(responses=RunEventSerializer(many=True))
    @action(detail=True, pagination_class=None, filterset_fields=None)
    def events(self, request: Request, pk: str | None = None) -> Response:
        """Events after `?after=SEQUENCE`, a thousand at most."""
        raw = request.query_params.get("after", "0")
        after = int(raw) if raw.isascii() and raw.isdigit() and len(raw) < 10 else 0
        rows = RunEvent.objects.filter(run=self.get_object(), sequence__gt=after)[:1000]
        return Response(RunEventSerializer(rows, many=True).data)


def _wished(one: dict[str, Any], user: Any) -> tuple[Version, int]:
    usable = Version.objects.usable_by(user)
    version = get_object_or_404(usable, datanet__slug=one["datanet"], number=one["number"])
    return version, one["weight"]


def _shaped(recipe: dict[str, Any] | None, parent: Model | None) -> dict[str, Any] | None:
    """The recipe as asked for; a setting of the adapter's shape must be the parent's."""
    if recipe is None or parent is None:
        return recipe
    asked = Recipe.from_json(recipe)
    fitting = recipe_from(parent, asked)
    other = [
        name for name in SHAPE if name in recipe and getattr(asked, name) != getattr(fitting, name)
    ]
    if other:
        raise Refused("PARENT", f"To start from {parent.name}, leave out {', '.join(other)}.")
    return recipe


class ModelViewSet(viewsets.ReadOnlyModelViewSet[Model]):
    queryset = Model.objects.none()
    serializer_class = ModelSerializer
    lookup_field = "slug"
    filterset_fields = ("state",)

    def get_queryset(self) -> Any:
        return Model.objects.visible_to(self.request.user).select_related("owner", "base_model")

    @extend_schema(request=MergeBody, responses={201: RunSerializer})
    @action(detail=False, methods=["post"], permission_classes=[IsAuthenticated])
    def merge(self, request: Request) -> Response:
        """Queue the linear merge of published models of one base; its run makes a model."""
        body = MergeBody(data=request.data)
        body.is_valid(raise_exception=True)
        wish: dict[str, Any] = dict(body.validated_data)
        published = Model.objects.published().select_related("base_model", "run")
        weighted = [
            (get_object_or_404(published, slug=one["model"]), one["weight"])
            for one in wish.pop("parents")
        ]
        user: Any = request.user
        with _refusals():
            run = start_merge(parents=weighted, acting_user=user, at=timezone.now(), **wish)
        return Response(RunSerializer(run, context=self.get_serializer_context()).data, status=201)

    @extend_schema(request=StakersBody, responses=ModelSerializer)
    @action(detail=True, methods=["put"], permission_classes=[IsAuthenticated])
    def stakers(self, request: Request, slug: str) -> Response:
        """Set the stakers' part as the model's owner; it holds for what is asked from now on."""
        body = StakersBody(data=request.data)
        body.is_valid(raise_exception=True)
        user: Any = request.user
        with _refusals():
            model = publishing.set_stakers_part(
                model=self.get_object(), acting_user=user, at=timezone.now(), **body.validated_data
            )
        return Response(self.get_serializer(model).data)
