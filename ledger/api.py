"""The ledger by API: reading, and OPEN that comes in. Amounts are decimal strings of wei."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field, inline_serializer
from rest_framework import generics, serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.fields import WeiSerializerField
from accounts.idempotency import idempotent
from ledger import reading, selectors, truth
from ledger.api_chain import TruthSerializer
from ledger.calldata import hex_data
from ledger.errors import LedgerError, UnknownAccount
from ledger.models import Account, Distribution, Entry, Posting
from ledger.onchain import raw_wallet_call
from ledger.services.claims import ClaimProof, claim_proof
from ledger.services.faucet import give
from ledger.services.opening import account_for


class PostingSerializer(serializers.ModelSerializer[Posting]):
    account = serializers.SerializerMethodField(
        help_text="Null where it is another person's spendable balance, or what they have held."
    )
    account_kind = serializers.CharField(source="account.kind")

    class Meta:
        model = Posting
        fields = (
            "id",
            "account",
            "account_kind",
            "amount",
            "datanet_id",
            "model_id",
            "completion_id",
        )

    def get_account(self, posting: Posting) -> UUID | None:
        visible = posting.account.is_visible_to(self.context["request"].user)
        return posting.account_id if visible else None


class EntrySerializer(serializers.ModelSerializer[Entry]):
    postings = PostingSerializer(many=True)
    cause_id = serializers.SerializerMethodField(
        help_text="Null where it is the account of another person."
    )
    truth = serializers.SerializerMethodField()

    class Meta:
        model = Entry
        fields = (
            "id",
            "kind",
            "truth",
            "effective_at",
            "cause_kind",
            "cause_id",
            "parameter_version",
            "reverses",
            "body_hash",
            "postings",
        )

    @extend_schema_field(TruthSerializer)
    def get_truth(self, entry: Entry) -> Any:
        return TruthSerializer(truth.of_entry(entry)).data

    def get_cause_id(self, entry: Entry) -> UUID | None:
        return selectors.cause_for(entry, self.context["request"].user)


class AccountSerializer(serializers.ModelSerializer[Account]):
    handle = serializers.SerializerMethodField()
    side = serializers.ChoiceField(choices=["credit", "debit"], read_only=True)
    balance = serializers.SerializerMethodField()

    class Meta:
        model = Account
        fields = ("id", "kind", "handle", "side", "balance")

    @extend_schema_field(WeiSerializerField)
    def get_balance(self, account: Account) -> str:
        return str(account.shards.total())

    def get_handle(self, account: Account) -> str:
        return selectors.owner_handle(account)


class DistributionSerializer(serializers.ModelSerializer[Distribution]):
    truth = serializers.SerializerMethodField()

    class Meta:
        model = Distribution
        fields = (
            "id",
            "epoch",
            "state",
            "truth",
            "amount",
            "total",
            "leaf_count",
            "chain_id",
            "distributor",
            "root",
            "data_sha256",
            "entry",
            "created_at",
            "active_at",
        )

    @extend_schema_field(TruthSerializer)
    def get_truth(self, distribution: Distribution) -> Any:
        return TruthSerializer(truth.of_distribution(distribution)).data


class EntryView(generics.RetrieveAPIView[Entry]):
    queryset = Entry.objects.prefetch_related("postings__account")
    serializer_class = EntrySerializer


class AccountView(generics.RetrieveAPIView[Account]):
    """An account. What people may spend or have held is for themselves and staff: 404."""

    queryset = Account.objects.none()
    serializer_class = AccountSerializer

    def get_queryset(self) -> QuerySet[Account]:
        return Account.objects.visible_to(self.request.user)


class AccountPostingsView(generics.ListAPIView[Posting]):
    queryset = Posting.objects.none()
    serializer_class = PostingSerializer

    def get_queryset(self) -> Any:
        found = Account.objects.visible_to(self.request.user).filter(pk=self.kwargs["pk"]).first()
        if found is None:
            raise Http404
        return selectors.postings_of(found).select_related("account").order_by("-id")


class DistributionsView(generics.ListAPIView[Distribution]):
    queryset = Distribution.objects.all()
    serializer_class = DistributionSerializer


class DistributionView(generics.RetrieveAPIView[Distribution]):
    queryset = Distribution.objects.all()
    serializer_class = DistributionSerializer


PAYOUT = inline_serializer(
    "Payout",
    {
        "address": serializers.CharField(),
        "published": WeiSerializerField(),
        "claimed": WeiSerializerField(),
        "claimable": WeiSerializerField(),
        "cumulative": WeiSerializerField(allow_null=True),
        "epoch": serializers.IntegerField(allow_null=True),
        "root": serializers.CharField(allow_null=True),
        "chain_id": serializers.IntegerField(allow_null=True),
        "distributor": serializers.CharField(allow_null=True),
        "proof": serializers.ListField(child=serializers.CharField(), allow_null=True),
        "call": serializers.DictField(child=serializers.CharField(), allow_null=True),
        "code": serializers.CharField(allow_blank=True),
        "message": serializers.CharField(allow_blank=True),
    },
)


class PayoutView(APIView):
    """What an address may claim, with the proof and the call that claims it.

    Where there is nothing to claim now, `code` and `message` say why and `proof` is null.
    """

    @extend_schema(responses=PAYOUT, operation_id="payouts_retrieve")
    def get(self, request: Request, address: str) -> Response:
        payee = selectors.payee_by_address(address)
        if payee is None:
            unknown = UnknownAccount("Nothing was ever published for this address.")
            return Response(reading.failure_of(unknown), status=404)
        known = {
            "address": payee.address,
            "published": str(payee.published),
            "claimed": str(payee.claimed),
        }
        try:
            return Response(known | _proof(claim_proof(payee.address)))
        except LedgerError as error:
            return Response(known | NOTHING | reading.failure_of(error))


class FaucetBody(serializers.Serializer[Any]):
    """How much."""

    amount = WeiSerializerField()


class DepositView(APIView):
    """How OPEN comes in: the Gateway's call for a wallet, and the faucet of a local chain."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(
        responses=inline_serializer(
            "DepositCall",
            {
                "call": serializers.DictField(child=serializers.CharField(), allow_null=True),
                "chain": serializers.DictField(allow_null=True),
            },
        ),
        operation_id="deposits_call",
    )
    def get(self, request: Request) -> Response:
        user: Any = request.user
        account = account_for(Account.Kind.USER, user.pk)
        return Response(
            {"call": reading.deposit_call(account), "chain": reading.chain_for_wallets()}
        )

    @extend_schema(
        request=FaucetBody,
        responses={202: inline_serializer("Given", {"amount": WeiSerializerField()})},
        operation_id="deposits_faucet",
    )
    @idempotent
    def post(self, request: Request, *, key: str) -> Response:
        """Ask the faucet; the balance rises once the chain has confirmed it."""
        user: Any = request.user
        body = FaucetBody(data=request.data)
        body.is_valid(raise_exception=True)
        amount = body.validated_data["amount"]
        try:
            give(user=user, amount=amount, key=key, acting_user=user, at=timezone.now())
        except LedgerError as error:
            return Response(reading.failure_of(error), status=400)
        return Response({"amount": str(amount)}, status=202)


class BalanceView(APIView):
    """The caller's own spendable balance, what is held, on its way to a wallet, and owed."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(
        responses=inline_serializer(
            "Balance",
            {name: WeiSerializerField() for name in ("balance", "held", "under_way", "owed")},
        ),
        operation_id="balance_retrieve",
    )
    def get(self, request: Request) -> Response:
        user: Any = request.user
        return Response(
            {
                "balance": str(selectors.balance(user)),
                "held": str(selectors.held(user)),
                "under_way": str(selectors.under_way(user)),
                "owed": str(selectors.owed(user)),
            }
        )


class EarningsView(APIView):
    """The caller's own earnings."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(
        responses=inline_serializer(
            "Earnings",
            {
                name: WeiSerializerField()
                for name in ("available", "pending", "claimable", "claimed", "received")
            },
        ),
        operation_id="earnings_retrieve",
    )
    def get(self, request: Request) -> Response:
        user: Any = request.user
        earnings = selectors.earnings(user)
        return Response(
            {
                "available": str(earnings.available),
                "pending": str(earnings.pending_total),
                "claimable": str(earnings.claimable),
                "claimed": str(earnings.claimed),
                "received": str(earnings.received),
            }
        )


NOTHING: dict[str, Any] = {
    "claimable": "0",
    "cumulative": None,
    "epoch": None,
    "root": None,
    "chain_id": None,
    "distributor": None,
    "proof": None,
    "call": None,
}


def _proof(ready: ClaimProof) -> dict[str, Any]:
    distribution = ready.distribution
    return {
        "claimable": str(ready.claimable),
        "cumulative": str(ready.cumulative),
        "epoch": distribution.epoch,
        "root": distribution.root,
        "chain_id": distribution.chain_id,
        "distributor": distribution.distributor,
        "proof": [hex_data(node) for node in ready.proof],
        "call": raw_wallet_call(distribution.distributor, ready.calldata),
        "code": "",
        "message": "",
    }
