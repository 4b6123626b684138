"""Withdrawals by API. Amounts are decimal strings of wei."""

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
from ledger import reading
from ledger.errors import LedgerError
from ledger.models import Account, Withdrawal
from ledger.services.withdrawals import SOURCES, request_withdrawal


class WithdrawalSerializer(serializers.ModelSerializer[Withdrawal]):
    account_kind = serializers.ChoiceField(
        source="source.kind", choices=[str(kind) for kind in SOURCES]
    )
    truth = serializers.SerializerMethodField(help_text="RECORDED, SUBMITTED, FINAL or FAILED.")

    class Meta:
        model = Withdrawal
        fields = (
            "id",
            "state",
            "truth",
            "account_kind",
            "address",
            "amount",
            "entry",
            "closed_by",
            "tx_hash",
            "failure_reason",
            "created_at",
            "closed_at",
        )

    def get_truth(self, withdrawal: Withdrawal) -> str:
        return reading.withdrawal_progress(withdrawal).truth.state.value


class WithdrawalBody(serializers.Serializer[Any]):
    """How much, from where, to which of the caller's wallets."""

    amount = WeiSerializerField()
    account_kind = serializers.ChoiceField(
        choices=[str(kind) for kind in SOURCES], default=str(Account.Kind.USER)
    )
    address = serializers.CharField(max_length=42)


def _mine(request: Any) -> QuerySet[Withdrawal]:
    mine = Withdrawal.objects.filter(user_id=request.user.pk)
    return mine.select_related("source", "batch")


class WithdrawalsView(generics.ListAPIView[Withdrawal]):
    """The caller's own withdrawals, the newest first; and asking for another."""

    permission_classes = (IsAuthenticated,)
    serializer_class = WithdrawalSerializer
    queryset = Withdrawal.objects.none()

    def get_queryset(self) -> QuerySet[Withdrawal]:
        return _mine(self.request)

    @extend_schema(
        request=WithdrawalBody,
        responses={202: WithdrawalSerializer},
        operation_id="withdrawals_request",
    )
    @idempotent
    def post(self, request: Request, *, key: str) -> Response:
        """Withdraw to a linked wallet; the money leaves the balance now and is paid in a batch."""
        user: Any = request.user
        body = WithdrawalBody(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        try:
            withdrawal = request_withdrawal(
                user=user,
                source=Account.Kind(asked["account_kind"]),
                address=asked["address"],
                amount=asked["amount"],
                key=key,
                acting_user=user,
                at=timezone.now(),
            )
        except LedgerError as error:
            return Response(reading.failure_of(error), status=400)
        return Response(WithdrawalSerializer(withdrawal).data, status=202)


class WithdrawalView(generics.RetrieveAPIView[Withdrawal]):
    """One of the caller's own withdrawals; another's is a 404."""

    permission_classes = (IsAuthenticated,)
    serializer_class = WithdrawalSerializer
    queryset = Withdrawal.objects.none()

    def get_queryset(self) -> QuerySet[Withdrawal]:
        return _mine(self.request)
