"""Slashes of stakes in pools by API: read by all, asked for by staff, appealed with a wallet.

Shares are basis points, amounts wei as strings, times of the contract seconds of the chain.
"""

from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import generics, serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ledger import poolslashes, reading
from ledger.errors import LedgerError
from ledger.models import PoolSlash, SlashFile
from ledger.services import poolslashes as services


class PoolSlashSerializer(serializers.ModelSerializer[PoolSlash]):
    address = serializers.CharField(source="position.address")
    pool_id = serializers.CharField(source="position.pool.pool_id")

    class Meta:
        model = PoolSlash
        fields = (
            "number", "pool_id", "address", "state", "share", "amount", "bond", "evidence",
            "statement", "executable_at", "tx_hash",
        )  # fmt: skip


class SlashFileSerializer(serializers.ModelSerializer[SlashFile]):
    """The words behind a hash of the chain; `body` is the file that has that SHA-256."""

    author = serializers.CharField(source="author.handle")

    class Meta:
        model = SlashFile
        fields = (
            "kind", "sha256", "body", "words", "author", "pool_id", "address", "share",
            "intent_id", "created_at",
        )  # fmt: skip


class PoolSlashDetailSerializer(PoolSlashSerializer):
    evidence_file = SlashFileSerializer(allow_null=True)
    statement_file = SlashFileSerializer(allow_null=True)

    class Meta:
        model = PoolSlash
        fields = (*PoolSlashSerializer.Meta.fields, "evidence_file", "statement_file")


class PoolSlashProposalSerializer(serializers.Serializer[Any]):
    pool_id = serializers.RegexField(r"^0x[0-9a-f]{64}$")
    address = serializers.CharField(max_length=42)
    share = serializers.IntegerField(min_value=1, max_value=10_000, help_text="Basis points.")
    words = serializers.CharField(max_length=services.LONGEST)


class PoolAppealSerializer(serializers.Serializer[Any]):
    words = serializers.CharField(max_length=services.LONGEST)


CALL: dict[str, Any] = {
    "call": serializers.DictField(child=serializers.CharField()),
    "function": serializers.CharField(),
    "refusals": serializers.DictField(child=serializers.CharField()),
}


APPEAL_CALL = inline_serializer("PoolAppealCall", CALL | {"sha256": serializers.CharField()})


class AllPoolSlashesView(generics.ListAPIView[PoolSlash]):
    """Slashes of stakes in pools, the newest first; `?state=` chooses."""

    queryset = PoolSlash.objects.select_related("position__pool").order_by("-number")
    serializer_class = PoolSlashSerializer
    filterset_fields = ("state",)

    @extend_schema(request=PoolSlashProposalSerializer, responses={201: SlashFileSerializer})
    def post(self, request: Request) -> Response:
        """Propose a slash, as staff. The evidence is kept; the chain is asked for the slash."""
        body = PoolSlashProposalSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        user: Any = request.user
        try:
            file = services.propose_pool_slash(
                acting_user=user, at=timezone.now(), **body.validated_data
            )
        except LedgerError as error:
            return Response(reading.failure_of(error), status=409)
        return Response(SlashFileSerializer(file).data, status=201)


class PoolSlashView(APIView):
    """One slash with the files behind its hashes; null for what was sent past this server."""

    @extend_schema(responses=PoolSlashDetailSerializer, operation_id="staking_slash")
    def get(self, request: Request, number: int) -> Response:
        found: Any = _slash(number)
        found.evidence_file = services.evidence_of(found)
        found.statement_file = services.statement_of(found)
        return Response(PoolSlashDetailSerializer(found).data)


class PoolSlashAppealView(APIView):
    """Keep the words of an appeal; the answer is the call that the wallet of the stake signs."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(
        request=PoolAppealSerializer,
        responses={
            201: inline_serializer("PoolAppealCall", CALL | {"sha256": serializers.CharField()})
        },
        operation_id="staking_slash_appeal",
    )
    def post(self, request: Request, number: int) -> Response:
        body = PoolAppealSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        slash, user = _slash(number), request.user
        assert user.is_authenticated
        try:
            file = services.write_appeal(
                slash=slash, acting_user=user, at=timezone.now(), **body.validated_data
            )
            call = poolslashes.call_for(slash, "appeal", statement=file.sha256)
        except LedgerError as error:
            return Response(reading.failure_of(error), status=409)
        return Response(call | {"sha256": file.sha256}, status=201)


class PoolSlashExecutionView(APIView):
    """Have the chain asked to carry out a slash whose window is over, as staff."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(
        request=None,
        responses=inline_serializer(
            "PoolSlashExecution",
            {"intent_id": serializers.UUIDField(), "state": serializers.CharField()},
        ),
        operation_id="staking_slash_execute",
    )
    def post(self, request: Request, number: int) -> Response:
        user: Any = request.user
        try:
            intent = services.execute_pool_slash(
                slash=_slash(number), acting_user=user, at=timezone.now()
            )
        except LedgerError as error:
            return Response(reading.failure_of(error), status=409)
        return Response({"intent_id": str(intent.pk), "state": intent.state})


class PoolSlashCallView(APIView):
    """A transaction for a wallet: anybody executes what is due, the guardian calls a slash off."""

    @extend_schema(
        parameters=[OpenApiParameter("action", str, enum=list(poolslashes.ACTIONS), required=True)],
        responses=inline_serializer("PoolSlashCall", CALL),
        operation_id="staking_slash_call",
    )
    def get(self, request: Request, number: int) -> Response:
        action = request.query_params.get("action", "")
        if action not in poolslashes.ACTIONS:
            body = {"code": "unknown_action", "message": "Ask for one of the listed actions."}
            return Response(body, status=400)
        try:
            return Response(poolslashes.call_for(_slash(number), action))
        except LedgerError as error:
            return Response(reading.failure_of(error), status=400)


def _slash(number: int) -> PoolSlash:
    found: QuerySet[PoolSlash] = PoolSlash.objects.select_related("position__pool")
    return get_object_or_404(found, number=number)
