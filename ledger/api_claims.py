"""Claims by API: what was claimed for the caller's wallets, and having our relayer send one."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.fields import WeiSerializerField
from accounts.idempotency import idempotent
from ledger import reading, selectors
from ledger.errors import LedgerError
from ledger.models import Claim
from ledger.services.claims import request_relayed_claim


class ClaimSerializer(serializers.ModelSerializer[Claim]):
    """`amount` is wei that leave the distributor; who sends the claim pays its gas."""

    address = serializers.CharField(source="payee.address")
    is_relayed = serializers.SerializerMethodField(help_text="Whether we were asked to send it.")
    truth = serializers.SerializerMethodField(help_text="RECORDED, SUBMITTED, FINAL or FAILED.")

    class Meta:
        model = Claim
        fields = (
            "id",
            "state",
            "truth",
            "address",
            "amount",
            "cumulative",
            "is_relayed",
            "distribution",
            "intent_id",
            "entry",
            "tx_hash",
            "failure_reason",
            "created_at",
            "paid_at",
        )

    def get_is_relayed(self, claim: Claim) -> bool:
        return claim.requested_by_id is not None

    def get_truth(self, claim: Claim) -> str:
        return reading.claim_progress(claim).truth.state.value


class ClaimBody(serializers.Serializer[Any]):
    """For which of the caller's wallets, and the most that sending it may cost."""

    address = serializers.CharField(max_length=42)
    maximum_fee = WeiSerializerField(
        help_text="`relay_fee` of `/payout-choices/`: a higher fee is refused and nothing is done."
    )


def _mine(request: Any) -> QuerySet[Claim]:
    return selectors.claims_of(request.user)


class ClaimsView(generics.ListAPIView[Claim]):
    """Claims for the caller's own wallets, the newest first; and asking for one."""

    permission_classes = (IsAuthenticated,)
    serializer_class = ClaimSerializer
    queryset = Claim.objects.none()

    def get_queryset(self) -> QuerySet[Claim]:
        return _mine(self.request)

    @extend_schema(
        request=ClaimBody, responses={202: ClaimSerializer}, operation_id="claims_request"
    )
    @idempotent
    def post(self, request: Request, *, key: str) -> Response:
        """Have our relayer claim all that is published for a linked wallet, for the stated fee."""
        user: Any = request.user
        body = ClaimBody(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        try:
            claim = request_relayed_claim(
                address=asked["address"],
                acting_user=user,
                shown_fee=asked["maximum_fee"],
                at=timezone.now(),
            )
        except LedgerError as error:
            return Response(reading.failure_of(error), status=400)
        return Response(ClaimSerializer(claim).data, status=202)


class ClaimView(generics.RetrieveAPIView[Claim]):
    """One of the claims for the caller's own wallets; another's is a 404."""

    permission_classes = (IsAuthenticated,)
    serializer_class = ClaimSerializer
    queryset = Claim.objects.none()

    def get_queryset(self) -> QuerySet[Claim]:
        return _mine(self.request)
