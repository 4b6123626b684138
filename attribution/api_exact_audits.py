"""API of receipts that are held against the exact influence."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from attribution import selectors
from attribution.models import ExactAudit


class ExactAuditSerializer(serializers.ModelSerializer[ExactAudit]):
    log_index = serializers.IntegerField(read_only=True, allow_null=True)
    steps_done = serializers.IntegerField(source="done", read_only=True)
    steps = serializers.IntegerField(
        source="total",
        read_only=True,
        help_text="Steps of the replay, through the training and back; 0 until it has begun.",
    )
    public = serializers.JSONField(
        read_only=True,
        help_text="What the log was told: both shares of every group in parts of 10^9, their "
        "difference and the correlation; empty until it is DONE. It moves no money.",
    )

    class Meta:
        model = ExactAudit
        fields = [
            "id", "receipt", "state", "asked_as", "steps_done", "steps", "failure_reason", "at",
            "log_index", "public",
        ]  # fmt: skip


class ExactAuditViewSet(mixins.RetrieveModelMixin, viewsets.GenericViewSet[ExactAudit]):
    """What is DONE is open to everyone, as every receipt; before, it is for who may ask for it."""

    queryset = ExactAudit.objects.none()
    serializer_class = ExactAuditSerializer

    def get_queryset(self) -> QuerySet[ExactAudit]:
        return ExactAudit.objects.visible_to(self.request.user).select_related("receipt")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    @action(detail=True)
    def proof(self, request: Request, pk: str) -> Response:
        """The statement and the receipt that it audits, both with their inclusion proofs; 404 while
        it waits for its place."""
        found: Any = self.get_object()
        bundle = selectors.bundle_of(found) if found.is_done else None
        if bundle is None:
            raise NotFound("The audit waits for its place in the log.")
        return Response(bundle)
