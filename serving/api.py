"""Reading API: deployments for everybody, one's own completions."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers, viewsets
from rest_framework.permissions import IsAuthenticated

from serving.models import Completion, Deployment


class DeploymentSerializer(serializers.ModelSerializer[Deployment]):
    base_model = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    model = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    owner = serializers.SlugRelatedField[Any](slug_field="handle", read_only=True)

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
            "failure_reason",
            "created_at",
            "live_at",
            "stopped_at",
        ]


class CompletionSerializer(serializers.ModelSerializer[Completion]):
    deployment = serializers.SlugRelatedField[Any](slug_field="name", read_only=True)
    messages = serializers.SerializerMethodField()

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
            "input_price",
            "output_price",
            "highest_fee",
            "fee",
            "parameter_version",
            "entry_id",
            "receipt_id",
            "failure_reason",
            "created_at",
            "finished_at",
        ]

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


class CompletionViewSet(viewsets.ReadOnlyModelViewSet[Completion]):
    serializer_class = CompletionSerializer
    queryset = Completion.objects.none()
    permission_classes = [IsAuthenticated]
    filterset_fields = ["state"]

    def get_queryset(self) -> QuerySet[Completion]:
        found: QuerySet[Completion] = Completion.objects.visible_to(
            self.request.user
        ).select_related("deployment")
        return found
