"""Reading governance by API. Votes and amounts are decimal strings of wei."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import generics, serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.fields import WeiSerializerField
from governance import selectors
from governance.models import ParameterVersion, Proposal, Vote
from governance.registry import GOVERNED
from ledger.chain.addresses import is_address


class VoteSerializer(serializers.ModelSerializer[Vote]):
    support = serializers.CharField(source="get_support_display")

    class Meta:
        model = Vote
        fields = ("voter", "support", "weight", "reason", "voted_at", "tx_hash")


class ProposalSerializer(serializers.ModelSerializer[Proposal]):
    state = serializers.SerializerMethodField()
    quorum = serializers.SerializerMethodField()

    class Meta:
        model = Proposal
        fields = (
            "number", "kind", "state", "title", "description", "proposer", "targets", "amounts",
            "calldatas", "proposed_at", "snapshot", "deadline", "quorum", "votes_for",
            "votes_against", "votes_abstain", "queued_at", "executable_at", "executed_at",
            "canceled_at", "tx_hash", "block_number",
        )  # fmt: skip

    def get_state(self, proposal: Proposal) -> str:
        return selectors.standing(proposal).state.value

    @extend_schema_field(WeiSerializerField)
    def get_quorum(self, proposal: Proposal) -> str:
        return str(selectors.standing(proposal).quorum)


class ParameterVersionSerializer(serializers.ModelSerializer[ParameterVersion]):
    proposal = serializers.CharField(source="proposal.number", default=None)

    class Meta:
        model = ParameterVersion
        fields = (
            "version", "state", "values", "changed", "proposal", "block_number", "tx_hash",
            "changed_at",
        )  # fmt: skip


class PartSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField()
    basis_points = serializers.IntegerField()


class GovernedValueSerializer(serializers.Serializer[Any]):
    """A governed number, in its unit; wei is a decimal string and so is every other."""

    key = serializers.CharField()
    name = serializers.CharField()
    unit = serializers.CharField()
    value = serializers.CharField()
    default = serializers.CharField()
    low = serializers.CharField()
    high = serializers.CharField()
    is_default = serializers.BooleanField()


class ParametersSerializer(serializers.Serializer[Any]):
    """What is in force."""

    version = serializers.IntegerField()
    split = PartSerializer(many=True, source="split.parts")
    values = serializers.SerializerMethodField()

    @extend_schema_field(GovernedValueSerializer(many=True))
    def get_values(self, parameters: selectors.Parameters) -> list[dict[str, Any]]:
        rows = [
            {
                "key": key,
                "name": declared.label,
                "unit": str(declared.unit),
                "value": str(parameters.governed(key)),
                "default": str(declared.default),
                "low": str(declared.low),
                "high": str(declared.high),
                "is_default": parameters.is_default(key),
            }
            for key, declared in GOVERNED.items()
        ]
        return rows


class PowerSerializer(serializers.Serializer[Any]):
    """What an address holds, and the votes that it may cast."""

    address = serializers.CharField()
    balance = WeiSerializerField()
    delegate = serializers.CharField()
    votes = WeiSerializerField()


class ProposalsView(generics.ListAPIView[Proposal]):
    permission_classes = (AllowAny,)
    serializer_class = ProposalSerializer
    queryset = Proposal.objects.all()


class ProposalView(generics.RetrieveAPIView[Proposal]):
    permission_classes = (AllowAny,)
    serializer_class = ProposalSerializer
    queryset = Proposal.objects.all()
    lookup_field = "number"


class VotesView(generics.ListAPIView[Vote]):
    permission_classes = (AllowAny,)
    serializer_class = VoteSerializer
    queryset = Vote.objects.none()

    def get_queryset(self) -> Any:
        return get_object_or_404(Proposal, number=self.kwargs["number"]).votes.all()


class ParametersView(APIView):
    permission_classes = (AllowAny,)

    @extend_schema(responses=ParametersSerializer)
    def get(self, request: Request) -> Response:
        return Response(ParametersSerializer(selectors.current_parameters()).data)


class ParameterVersionsView(generics.ListAPIView[ParameterVersion]):
    permission_classes = (AllowAny,)
    serializer_class = ParameterVersionSerializer
    queryset = ParameterVersion.objects.select_related("proposal")


class PowerView(APIView):
    permission_classes = (AllowAny,)

    @extend_schema(responses=PowerSerializer)
    def get(self, request: Request, address: str) -> Response:
        if not is_address(address):
            message = "This is no address, or a letter of it was mistyped."
            return Response({"code": "invalid_address", "message": message}, status=400)
        return Response(PowerSerializer(selectors.holdings([address])[0]).data)
