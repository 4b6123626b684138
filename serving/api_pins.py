"""API of pins: what keeping an adapter in memory costs, asking for it, seeing it, ending it.

Asking holds money and ending gives up what was paid, so both ask for the scope MONEY.
"""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.fields import WeiSerializerField
from accounts.idempotency import idempotent
from serving.api import Refused
from serving.errors import Refusal
from serving.limits import PIN_DAYS
from serving.models import Deployment, Pin
from serving.services import pins as service


class PinSerializer(serializers.ModelSerializer[Pin]):
    deployment = serializers.SlugRelatedField[Any](slug_field="name", read_only=True)

    class Meta:
        model = Pin
        fields = [
            "id", "deployment", "state", "days", "bytes", "fee", "entry_id", "created_at",
            "active_at", "until", "failure_reason",
        ]  # fmt: skip


class PinBody(serializers.Serializer[Any]):
    """What to pin, by the name of its deployment, and for how many days."""

    deployment = serializers.CharField()
    days = serializers.IntegerField(min_value=1, max_value=PIN_DAYS)


class PinQuoteSerializer(serializers.Serializer[Any]):
    deployment = serializers.CharField()
    days = serializers.IntegerField()
    mib = serializers.IntegerField(help_text="Mebibytes that are paid for, each begun one whole.")
    fee = WeiSerializerField(help_text="Wei that would be held now.")


class PinViewSet(viewsets.ReadOnlyModelViewSet[Pin]):
    """One's own pins, the newest first; staff see all."""

    serializer_class = PinSerializer
    queryset = Pin.objects.none()
    permission_classes = [IsAuthenticated]
    filterset_fields = ["state"]

    def get_queryset(self) -> QuerySet[Pin]:
        found: QuerySet[Pin] = Pin.objects.visible_to(self.request.user)
        return found.select_related("deployment")

    @extend_schema(request=PinBody, responses={201: PinSerializer})
    @idempotent
    def create(self, request: Request, *, key: str) -> Response:
        """Hold the price; it is charged once a worker has the adapter, and the days count then."""
        user: Any = request.user
        deployment, days = self._asked(request)
        try:
            made = service.request_pin(
                deployment=deployment, days=days, acting_user=user, at=timezone.now(), key=key
            )
        except Refusal as refusal:
            raise Refused(refusal) from refusal
        return Response(self.get_serializer(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=PinBody, responses=PinQuoteSerializer)
    @action(detail=False, methods=["post"])
    def quote(self, request: Request) -> Response:
        """What it would cost; nothing is held."""
        deployment, days = self._asked(request)
        try:
            found = service.quote_pin(deployment=deployment, days=days)
        except Refusal as refusal:
            raise Refused(refusal) from refusal
        told = {
            "deployment": deployment.name, "days": found.days, "mib": found.mib, "fee": found.fee,
        }  # fmt: skip
        return Response(PinQuoteSerializer(told).data)

    @extend_schema(request=None, responses=PinSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def end(self, request: Request, pk: str, *, key: str) -> Response:
        """Let go of it now. What is not charged yet is given back; what is, is not."""
        user: Any = request.user
        try:
            ended = service.end_pin(pin=self.get_object(), acting_user=user, at=timezone.now())
        except Refusal as refusal:
            raise Refused(refusal) from refusal
        return Response(self.get_serializer(ended).data)

    def _asked(self, request: Request) -> tuple[Deployment, int]:
        body = PinBody(data=request.data)
        body.is_valid(raise_exception=True)
        visible = Deployment.objects.visible_to(request.user).with_parts()
        asked: dict[str, Any] = dict(body.validated_data)
        return get_object_or_404(visible, name=asked["deployment"]), asked["days"]
