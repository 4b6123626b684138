"""The explorer by API: intents, transactions, blocks and addresses, with their state of truth."""

from typing import Any

from django.http import Http404
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import generics, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.fields import WeiSerializerField
from ledger import explorer, reading, truth
from ledger.models import Intent
from ledger.truth import Truth


class TruthSerializer(serializers.Serializer[Truth]):
    """How far something is: recorded by us, submitted to the chain, or final on it."""

    state = serializers.ChoiceField(choices=[state.value for state in truth.State])
    words = serializers.CharField()
    settled = serializers.BooleanField(help_text="Nothing more will happen.")
    confirmations = serializers.IntegerField(allow_null=True)
    block_number = serializers.IntegerField(allow_null=True)
    tx_hash = serializers.CharField(allow_blank=True)


class IntentSerializer(serializers.ModelSerializer[Intent]):
    truth = serializers.SerializerMethodField()
    contract = serializers.SerializerMethodField()
    function = serializers.SerializerMethodField()

    class Meta:
        model = Intent
        fields = (
            "id",
            "kind",
            "state",
            "truth",
            "chain_id",
            "to",
            "contract",
            "function",
            "value",
            "nonce",
            "tx_hash",
            "block_number",
            "block_hash",
            "gas_used",
            "fee",
            "failure_reason",
            "created_at",
            "settled_at",
        )

    @extend_schema_field(TruthSerializer)
    def get_truth(self, intent: Intent) -> Any:
        return TruthSerializer(truth.of_intent(intent)).data

    def get_contract(self, intent: Intent) -> str:
        return reading.called_by(intent)[0]

    def get_function(self, intent: Intent) -> str:
        return reading.called_by(intent)[1]


class ArgumentSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    value = serializers.CharField(
        allow_null=True, help_text="Null where it names somebody's private account."
    )


class EventSerializer(serializers.Serializer[explorer.Event]):
    """A log of one of our contracts, and the entries that it caused."""

    contract = serializers.CharField(source="log.contract")
    event = serializers.CharField(source="log.event")
    log_index = serializers.IntegerField(source="log.log_index")
    tx_hash = serializers.CharField(source="log.tx_hash")
    block_number = serializers.IntegerField(source="log.block.number")
    applied_at = serializers.DateTimeField(source="log.applied_at", allow_null=True)
    arguments = serializers.SerializerMethodField()
    entries = serializers.SerializerMethodField()

    @extend_schema_field(ArgumentSerializer(many=True))
    def get_arguments(self, event: explorer.Event) -> list[dict[str, str | None]]:
        return [{"name": name, "value": value or None} for name, value in event.arguments]

    @extend_schema_field(serializers.ListField(child=serializers.UUIDField()))
    def get_entries(self, event: explorer.Event) -> list[str]:
        return [str(entry.pk) for entry in event.entries]


class TransactionSerializer(serializers.Serializer[explorer.Transaction]):
    hash = serializers.CharField()
    truth = TruthSerializer()
    replaced = serializers.BooleanField(
        help_text="Another transaction with the same nonce took its place."
    )
    intents = IntentSerializer(many=True)
    events = EventSerializer(many=True)


class BlockSerializer(serializers.Serializer[explorer.Block]):
    number = serializers.IntegerField(source="block.number")
    hash = serializers.CharField(source="block.hash")
    chain_id = serializers.IntegerField(source="block.chain_id")
    time = serializers.DateTimeField(allow_null=True)
    gone = serializers.BooleanField(help_text="A reorganisation took it away.")
    truth = TruthSerializer()
    events = EventSerializer(many=True)
    intents = IntentSerializer(many=True)


class AddressSerializer(serializers.Serializer[explorer.Address]):
    address = serializers.CharField()
    contract = serializers.CharField(allow_blank=True)
    holder = serializers.SerializerMethodField(help_text="The handle of whose wallet it is.")
    published = WeiSerializerField(source="payout.published", default=None, allow_null=True)
    claimed = WeiSerializerField(source="payout.claimed", default=None, allow_null=True)

    def get_holder(self, found: explorer.Address) -> str | None:
        return found.holder.handle if found.holder else None


class IntentsView(generics.ListAPIView[Intent]):
    """What was asked of the chain, the newest first; `?kind=` and `?state=` choose."""

    queryset = Intent.objects.order_by("-id")
    serializer_class = IntentSerializer
    filterset_fields = ("kind", "state")


class IntentView(generics.RetrieveAPIView[Intent]):
    queryset = Intent.objects.all()
    serializer_class = IntentSerializer


class TransactionView(APIView):
    """By hash: what we asked for with it, what it did in our contracts, what that entered."""

    @extend_schema(responses=TransactionSerializer, operation_id="transactions_retrieve")
    def get(self, request: Request, tx_hash: str) -> Response:
        found = explorer.transaction(tx_hash, request.user)
        if found is None:
            raise Http404
        return Response(TransactionSerializer(found).data)


class BlockView(APIView):
    """By number or hash: our events in it. A block that a reorganisation took is told as gone."""

    @extend_schema(responses=BlockSerializer, operation_id="blocks_retrieve")
    def get(self, request: Request, wanted: str) -> Response:
        found = explorer.block(wanted, request.user)
        if found is None:
            raise Http404
        return Response(BlockSerializer(found).data)


class AddressView(APIView):
    """What an address of the chain is to us."""

    @extend_schema(responses=AddressSerializer, operation_id="addresses_retrieve")
    def get(self, request: Request, wanted: str) -> Response:
        found = explorer.address(wanted)
        if found is None:
            raise Http404
        return Response(AddressSerializer(found).data)
