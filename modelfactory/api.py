"""Reading API of base models, runs and models."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from modelfactory import selectors
from modelfactory.models import BaseModel, Model, Run, RunEvent


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


class RunSerializer(serializers.ModelSerializer[Run]):
    builder: Any = serializers.SlugField(source="builder.handle", read_only=True)
    base_model: Any = serializers.SlugRelatedField(slug_field="slug", read_only=True)
    versions = RunVersionSerializer(source="run_versions", many=True, read_only=True)
    model: Any = serializers.SlugRelatedField(slug_field="slug", read_only=True)
    queue_position = serializers.SerializerMethodField()
    result = serializers.SerializerMethodField()

    class Meta:
        model = Run
        fields = (
            "id", "name", "goal", "state", "builder", "base_model", "versions", "recipe", "device",
            "dtype", "step", "steps", "queue_position", "failure_reason", "result", "model",
            "queued_at", "started_at", "finished_at", "created_at",
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


class ModelSerializer(serializers.ModelSerializer[Model]):
    owner = serializers.SlugField(source="owner.handle", read_only=True)
    base_model: Any = serializers.SlugRelatedField(slug_field="slug", read_only=True)
    evaluation = serializers.SerializerMethodField()

    class Meta:
        model = Model
        fields = (
            "id", "slug", "name", "summary", "state", "owner", "base_model", "run",
            "adapter_sha256", "adapter_bytes", "manifest", "manifest_sha256", "evaluation",
            "licence", "input_price", "output_price", "stakers_bps", "statement", "published_at",
            "created_at",
        )  # fmt: skip

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_evaluation(self, model: Model) -> dict[str, Any]:
        """Figures without the held-out texts."""
        return _figures(model.evaluation)


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
            "run_versions__version__datanet"
        )

    @extend_schema(responses=RunEventSerializer(many=True))
    @action(detail=True, pagination_class=None, filterset_fields=None)
    def events(self, request: Request, pk: str | None = None) -> Response:
        """Events after `?after=SEQUENCE`, a thousand at most."""
        raw = request.query_params.get("after", "0")
        after = int(raw) if raw.isascii() and raw.isdigit() and len(raw) < 10 else 0
        rows = RunEvent.objects.filter(run=self.get_object(), sequence__gt=after)[:1000]
        return Response(RunEventSerializer(rows, many=True).data)


class ModelViewSet(viewsets.ReadOnlyModelViewSet[Model]):
    queryset = Model.objects.none()
    serializer_class = ModelSerializer
    lookup_field = "slug"
    filterset_fields = ("state",)

    def get_queryset(self) -> Any:
        return Model.objects.visible_to(self.request.user).select_related("owner", "base_model")
