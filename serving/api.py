"""API of deployments (read, deploy, stop) and of one's own completions (read)."""

from __future__ import annotations

from typing import Any

from django.db.models import OuterRef, QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import APIException
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.fields import WeiSerializerField
from ledger.selectors import refund_amount
from modelfactory.models import Model
from serving.errors import Refusal
from serving.models import Completion, Deployment, RetrievalIndex
from serving.services import deployments as service
from serving.services import retrieval


class RetrievalSerializer(serializers.ModelSerializer[RetrievalIndex]):
    """Whether records are looked up before an answer; `done` of `total` have their vectors."""

    class Meta:
        model = RetrievalIndex
        fields = ["state", "encoder", "done", "total", "failure_reason", "ready_at"]


class RetrievalBody(serializers.Serializer[Any]):
    on = serializers.BooleanField()


class DeploymentSerializer(serializers.ModelSerializer[Deployment]):
    base_model = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    model = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    owner = serializers.SlugRelatedField[Any](slug_field="handle", read_only=True)
    retrieval = serializers.SerializerMethodField()

    @extend_schema_field(RetrievalSerializer(allow_null=True))
    def get_retrieval(self, deployment: Deployment) -> dict[str, Any] | None:
        """null where it was never switched on."""
        index = getattr(deployment, "retrieval", None)
        return dict(RetrievalSerializer(index).data) if index else None

    class Meta:
        model = Deployment
        fields = [
            "id",
            "name",
            "state",
            "base_model",
            "model",
            "owner",
            "input_price",
            "output_price",
            "retrieval",
            "failure_reason",
            "created_at",
            "live_at",
            "stopped_at",
        ]


class DeployBody(serializers.Serializer[Any]):
    """What to deploy, by its slug, and wei per token; without prices the model's own hold."""

    model = serializers.SlugField()
    input_price = WeiSerializerField(required=False)
    output_price = WeiSerializerField(required=False)


class Refused(APIException):
    """A refusal of serving in the API's shape, with its own status."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message, code=refusal.code or refusal.kind)
        self.status_code = refusal.status


class MergedAdapterSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="Of its deployment.")
    model = serializers.UUIDField()
    weight_ppm = serializers.IntegerField(help_text="Millionths.")
    share_ppb = serializers.IntegerField(help_text="Parts of 10^9 of what models earn.")


class MergeSerializer(serializers.Serializer[Any]):
    method = serializers.CharField()
    density_ppm = serializers.IntegerField()
    seed = serializers.CharField()
    parents = MergedAdapterSerializer(many=True)


class CompletionSerializer(serializers.ModelSerializer[Completion]):
    deployment = serializers.SlugRelatedField[Any](slug_field="name", read_only=True)
    messages = serializers.SerializerMethodField()
    refunded = WeiSerializerField(
        read_only=True, allow_null=True, help_text="Wei of the fee that were given back, or null."
    )
    retrieved = serializers.SerializerMethodField()
    merge = MergeSerializer(
        read_only=True, allow_null=True, help_text="Adapters that answered as one, or null."
    )

    class Meta:
        model = Completion
        fields = [
            "id",
            "deployment",
            "kind",
            "state",
            "messages",
            "prompt",
            "answer",
            "finish_reason",
            "prompt_tokens",
            "completion_tokens",
            "retrieved",
            "merge",
            "input_price",
            "output_price",
            "highest_fee",
            "fee",
            "refunded",
            "parameter_version",
            "entry_id",
            "receipt_id",
            "failure_reason",
            "created_at",
            "finished_at",
        ]

    @extend_schema_field(
        {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "record": {"type": "string", "format": "uuid"},
                    "distance": {"type": "string"},
                },
            },
        }
    )
    def get_retrieved(self, completion: Completion) -> list[dict[str, str]]:
        """The records that were put into the prompt: the first is cited as [1]."""
        stated = (completion.retrieval or {}).get("records", [])
        return [{"record": one["record"], "distance": one["distance"]} for one in stated]

    @extend_schema_field({"type": "array", "items": {"type": "object"}})
    def get_messages(self, completion: Completion) -> list[dict[str, str]]:
        return list(completion.messages)


class DeploymentViewSet(viewsets.ReadOnlyModelViewSet[Deployment]):
    serializer_class = DeploymentSerializer
    queryset = Deployment.objects.none()
    lookup_field = "name"
    filterset_fields = ["state"]

    def get_queryset(self) -> QuerySet[Deployment]:
        found: QuerySet[Deployment] = Deployment.objects.visible_to(self.request.user).with_parts()
        return found

    @extend_schema(request=DeployBody, responses={201: DeploymentSerializer})
    def create(self, request: Request) -> Response:
        """Deploy a model of one's own; it is LIVE once a worker has loaded it."""
        body = DeployBody(data=request.data)
        body.is_valid(raise_exception=True)
        wish: dict[str, Any] = dict(body.validated_data)
        visible = Model.objects.visible_to(request.user)
        wish["model"] = get_object_or_404(visible, slug=wish["model"])
        user: Any = request.user
        try:
            made = service.deploy(**wish, acting_user=user, at=timezone.now())
        except Refusal as refusal:
            raise Refused(refusal) from refusal
        return Response(self.get_serializer(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=None, responses=DeploymentSerializer)
    @action(detail=True, methods=["post"])
    def stop(self, request: Request, name: str) -> Response:
        """Take a deployment of one's own out of service."""
        user: Any = request.user
        try:
            stopped = service.stop(
                deployment=self.get_object(), acting_user=user, at=timezone.now()
            )
        except Refusal as refusal:
            raise Refused(refusal) from refusal
        return Response(self.get_serializer(stopped).data)

    @extend_schema(request=RetrievalBody, responses=DeploymentSerializer)
    @action(detail=True, methods=["post"])
    def retrieval(self, request: Request, name: str) -> Response:
        """Switch on or off that records of the model's Datanets are put into prompts."""
        body = RetrievalBody(data=request.data)
        body.is_valid(raise_exception=True)
        user: Any = request.user
        switch = retrieval.switch_on if body.validated_data["on"] else retrieval.switch_off
        deployment = self.get_object()
        try:
            switch(deployment=deployment, acting_user=user, at=timezone.now())
        except Refusal as refusal:
            raise Refused(refusal) from refusal
        # As it is now: what was read above knows the switch as it was.
        return Response(self.get_serializer(self.get_object()).data)


class CompletionViewSet(viewsets.ReadOnlyModelViewSet[Completion]):
    serializer_class = CompletionSerializer
    queryset = Completion.objects.none()
    permission_classes = [IsAuthenticated]
    filterset_fields = ["state"]

    def get_queryset(self) -> QuerySet[Completion]:
        found: QuerySet[Completion] = Completion.objects.visible_to(self.request.user)
        return found.select_related("deployment").annotate(refunded=refund_amount(OuterRef("pk")))
