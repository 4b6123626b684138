"""Payout choices by API, and a look at somebody's own proof."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.fields import WeiSerializerField
from ledger import reading
from ledger.chain.addresses import is_address
from ledger.errors import InvalidEntry, LedgerError
from ledger.models import PayoutChoice
from ledger.payoutchoices import Choices, choices_of
from ledger.services.claims import check_proof
from ledger.services.relays import choose_payouts

NODES = 64


class PayoutChoicesSerializer(serializers.Serializer[Choices]):
    """How one is paid, and what a claim that is sent for one costs now; wei."""

    claims = serializers.ChoiceField(choices=PayoutChoice.Claims.choices, source="choice.claims")
    push = serializers.BooleanField(source="choice.push")
    maximum_fee = WeiSerializerField(
        source="choice.maximum_fee", help_text="No higher fee is set aside; 0 with OWN."
    )
    relay_fee = WeiSerializerField(read_only=True, help_text="What a relayed claim costs now.")
    relay_gas = serializers.IntegerField(source="gas", read_only=True)
    push_minimum = WeiSerializerField(read_only=True)
    push_below = WeiSerializerField(read_only=True)


class PayoutChoicesView(APIView):
    """The caller's payout choices. `maximum_fee` is the most that a relayed claim may cost."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(responses=PayoutChoicesSerializer, operation_id="payout_choices_retrieve")
    def get(self, request: Request) -> Response:
        user: Any = request.user
        return Response(PayoutChoicesSerializer(choices_of(user)).data)

    @extend_schema(
        request=PayoutChoicesSerializer,
        responses=PayoutChoicesSerializer,
        operation_id="payout_choices_update",
    )
    def put(self, request: Request) -> Response:
        user: Any = request.user
        body = PayoutChoicesSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        wanted = body.validated_data["choice"]
        try:
            choose_payouts(
                user=user,
                claims=PayoutChoice.Claims(wanted["claims"]),
                push=wanted["push"],
                shown_fee=wanted["maximum_fee"],
                acting_user=user,
                at=timezone.now(),
            )
        except LedgerError as error:
            return Response(reading.failure_of(error), status=400)
        return Response(PayoutChoicesSerializer(choices_of(user)).data)


class ProofBody(serializers.Serializer[Any]):
    address = serializers.CharField(max_length=42)
    cumulative = WeiSerializerField()
    proof = serializers.ListField(
        child=serializers.RegexField(r"^0x[0-9a-fA-F]{64}$"), max_length=NODES, allow_empty=True
    )


class ProofCheckView(APIView):
    """Whether a proof that somebody holds leads to the root in force.

    It writes nothing, and anyone may ask: all of it is public.
    """

    authentication_classes = ()
    permission_classes = ()

    @extend_schema(
        request=ProofBody,
        responses={
            200: inline_serializer("ProofFits", {"fits": serializers.BooleanField()}),
            400: OpenApiResponse(description="It does not, and why."),
        },
        operation_id="payouts_check_proof",
    )
    def post(self, request: Request) -> Response:
        body = ProofBody(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        try:
            if not is_address(asked["address"]):
                raise InvalidEntry(f"{asked['address']!r} is no address.")
            check_proof(
                address=asked["address"],
                cumulative=asked["cumulative"],
                proof=[bytes.fromhex(node[2:]) for node in asked["proof"]],
            )
        except LedgerError as error:
            return Response(reading.failure_of(error), status=400)
        return Response({"fits": True})
