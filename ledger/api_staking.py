"""Staking by API: pools, one's positions, and calls for a wallet. Amounts are wei as strings."""

from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import generics, serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.fields import WeiSerializerField
from ledger import reading, stakepools
from ledger.api_slashes import PoolSlashSerializer
from ledger.chain.abi import AbiError
from ledger.chain.addresses import to_checksum
from ledger.errors import InvalidAmount, LedgerError
from ledger.models import PoolSlash, StakePool
from ledger.services.posting import check_amount

WIDEST = 2**128


class StakePoolSerializer(serializers.ModelSerializer[StakePool]):
    class Meta:
        model = StakePool
        fields = (
            "pool_id", "name", "model_id", "kind", "closed", "wait", "period", "staked",
            "rewards", "left", "rate", "index", "updated_at",
        )  # fmt: skip


class StakePoolsView(generics.ListAPIView[StakePool]):
    """Pools as the chain has them."""

    queryset = StakePool.objects.order_by("id")
    serializer_class = StakePoolSerializer


class StakePoolView(generics.RetrieveAPIView[StakePool]):
    queryset = StakePool.objects.all()
    serializer_class = StakePoolSerializer
    lookup_field = "pool_id"


class PoolSlashesView(generics.ListAPIView[PoolSlash]):
    queryset = PoolSlash.objects.none()
    serializer_class = PoolSlashSerializer

    def get_queryset(self) -> QuerySet[PoolSlash]:
        return stakepools.slashes_of(get_object_or_404(StakePool, pool_id=self.kwargs["pool_id"]))


POSITION = inline_serializer(
    "StakePosition",
    {
        "pool_id": serializers.CharField(),
        "address": serializers.CharField(),
        "staked": WeiSerializerField(),
        "cooling": WeiSerializerField(),
        "earned": WeiSerializerField(),
        "claimed": WeiSerializerField(),
        "releases_at": serializers.DateTimeField(allow_null=True),
    },
    many=True,
)


class StakePositionsView(APIView):
    """Positions of the caller's linked wallets, as of the newest mirrored block."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(responses=POSITION, operation_id="staking_positions")
    def get(self, request: Request) -> Response:
        rows = stakepools.positions_of(request.user)
        return Response([_position(mine) for mine in rows])


class SolvencyView(APIView):
    """What belongs to whom in the contract, and what it held at the last comparison."""

    @extend_schema(
        responses=inline_serializer(
            "StakingSolvency",
            {
                name: WeiSerializerField()
                for name in ("principal", "rewards", "slashed", "held", "expected")
            }
            | {"checked_at": serializers.DateTimeField(allow_null=True)},
        ),
        operation_id="staking_solvency",
    )
    def get(self, request: Request) -> Response:
        found = stakepools.solvency()
        names = ("principal", "rewards", "slashed", "held", "expected")
        body: dict[str, Any] = {name: str(getattr(found, name)) for name in names}
        return Response(body | {"checked_at": found.checked_at})


class StakeCallView(APIView):
    """A transaction for a wallet: stake, unstake, withdraw or claim in a pool. Nothing is sent."""

    @extend_schema(
        parameters=[
            OpenApiParameter("action", str, enum=list(stakepools.ACTIONS), required=True),
            OpenApiParameter("amount", str, description="Wei, for stake and unstake."),
            OpenApiParameter("address", str, description="Whose rewards, for claim."),
        ],
        responses=inline_serializer(
            "StakeCall",
            {
                "call": serializers.DictField(child=serializers.CharField()),
                "function": serializers.CharField(),
                "pool": serializers.CharField(),
                "amount": WeiSerializerField(),
                "refusals": serializers.DictField(
                    child=serializers.CharField(),
                    help_text="Why the contract refuses, by the selector of its error.",
                ),
            },
        ),
        operation_id="staking_call",
    )
    def get(self, request: Request, pool_id: str) -> Response:
        given = request.query_params
        action = given.get("action", "")
        if action not in stakepools.ACTIONS:
            body = {"code": "unknown_action", "message": "Ask for one of the listed actions."}
            return Response(body, status=400)
        try:
            amount = _amount(given.get("amount", "")) if action in ("stake", "unstake") else 0
            address = to_checksum(given.get("address", "")) if action == "claim" else ""
            return Response(stakepools.call_for(pool_id, action, amount=amount, address=address))
        except LedgerError as error:
            return Response(reading.failure_of(error), status=400)
        except (ValueError, AbiError):
            body = {"code": "invalid_call", "message": "A pool or an address is not one."}
            return Response(body, status=400)


def _amount(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 78:
        raise InvalidAmount("Give the amount in wei as a string of digits.")
    amount = check_amount(int(text))
    if amount >= WIDEST:
        raise InvalidAmount("A stake must stay below 2**128 wei.")
    return amount


def _position(mine: stakepools.Mine) -> dict[str, Any]:
    position = mine.position
    return {
        "pool_id": position.pool.pool_id,
        "address": position.address,
        "staked": str(position.staked),
        "cooling": str(position.cooling),
        "earned": str(mine.earned),
        "claimed": str(position.claimed),
        "releases_at": mine.releases_at,
    }
