"""Refunds of captured fees by API, for staff. Amounts are decimal strings of wei."""

from typing import Any

from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.permissions import IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response

from ledger import reading
from ledger.errors import LedgerError
from ledger.models import Refund
from ledger.services.refunds import refund_fee, refundable


class RefundSerializer(serializers.ModelSerializer[Refund]):
    completion = serializers.UUIDField(source="hold.cause_id", read_only=True)
    payer = serializers.CharField(source="hold.payer.handle", read_only=True)

    class Meta:
        model = Refund
        fields = (
            "id", "completion", "payer", "amount", "taken_back", "borne", "entry", "settlement",
            "reason", "created_at",
        )  # fmt: skip


class RefundBody(serializers.Serializer[Any]):
    """Which completion's fee is given back, and why."""

    completion = serializers.UUIDField(help_text="Or the id of an embedding or a pin.")
    reason = serializers.CharField(max_length=500)


class RefundsView(generics.ListAPIView[Refund]):
    """Fees that were given back, the newest first; and giving one back. Staff only."""

    permission_classes = (IsAdminUser,)
    serializer_class = RefundSerializer
    queryset = Refund.objects.select_related("hold__payer")

    @extend_schema(
        request=RefundBody, responses={201: RefundSerializer}, operation_id="refunds_create"
    )
    def post(self, request: Request) -> Response:
        """The payer gets the whole fee. Asked again for a completion, the first is answered."""
        user: Any = request.user
        body = RefundBody(data=request.data)
        body.is_valid(raise_exception=True)
        hold = refundable(body.validated_data["completion"])
        if hold is None:
            raise Http404
        try:
            made = refund_fee(
                hold=hold,
                reason=body.validated_data["reason"],
                acting_user=user,
                at=timezone.now(),
            )
        except LedgerError as error:
            return Response(reading.failure_of(error), status=400)
        return Response(RefundSerializer(made).data, status=201)
