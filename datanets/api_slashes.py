"""Stakes and slashes by API: what the pages show, and the same steps. Amounts: wei as strings."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.permissions import IsAuthenticated, IsAuthenticatedOrReadOnly
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.fields import WeiSerializerField
from accounts.idempotency import idempotent
from datanets import stakes
from datanets.errors import DatanetError
from datanets.models import Contribution, ContributionStake, Datanet, Slash, SlashReason
from datanets.services import slashing
from datanets.services.staking import set_stake_amount


class StakeSerializer(serializers.ModelSerializer[ContributionStake]):
    """A contribution's stake with the terms that were fixed when it was locked."""

    state = serializers.CharField(source="stake.state")
    amount = WeiSerializerField(source="stake.amount")
    slashed = WeiSerializerField(source="stake.slashed")
    returned = WeiSerializerField(source="stake.returned")
    left = WeiSerializerField(source="stake.left")
    entry = serializers.UUIDField(source="stake.opened_by_id")
    returns_at = serializers.DateTimeField(
        allow_null=True, help_text="Null while a record waits for its verdict."
    )

    class Meta:
        model = ContributionStake
        fields = [
            "id", "contribution", "state", "amount", "slashed", "returned", "left", "entry",
            "redundant_bps", "biased_bps", "adversarial_bps", "appeal_seconds", "return_seconds",
            "bond", "parameter_version", "returns_at",
        ]  # fmt: skip


class SlashSerializer(serializers.ModelSerializer[Slash]):
    datanet = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    staker = serializers.CharField(source="staker.handle", read_only=True)
    proposed_by = serializers.SlugRelatedField[Any](slug_field="handle", read_only=True)
    decided_by = serializers.SlugRelatedField[Any](slug_field="handle", read_only=True)
    records = serializers.PrimaryKeyRelatedField[Any](many=True, read_only=True)

    class Meta:
        model = Slash
        fields = [
            "id", "datanet", "staker", "state", "reason", "evidence", "records", "basis_points",
            "amount", "bond_amount", "proposed_by", "created_at", "appeal_until", "appeal",
            "appealed_at", "decided_by", "statement", "closed_at", "entry",
        ]  # fmt: skip
        read_only_fields = fields


class SlashProposalSerializer(serializers.Serializer[Any]):
    reason = serializers.ChoiceField(choices=SlashReason.choices)
    evidence = serializers.CharField(max_length=4_000)
    records = serializers.ListField(
        child=serializers.UUIDField(), min_length=1, max_length=slashing.MAX_RECORDS
    )


class SlashAppealSerializer(serializers.Serializer[Any]):
    text = serializers.CharField(max_length=4_000)


class SlashDecisionSerializer(serializers.Serializer[Any]):
    upheld = serializers.BooleanField()
    statement = serializers.CharField(max_length=2_000)


class StakeTermsSerializer(serializers.Serializer[Any]):
    """What a Datanet asks for with each contribution now; an amount of 0 asks for nothing."""

    amount = WeiSerializerField(source="quote.amount")
    least = WeiSerializerField(help_text="The governed minimum of a stake that is not 0.")
    parts = serializers.DictField(
        source="quote.parts", child=serializers.IntegerField(), help_text="Basis points by reason."
    )
    appeal_seconds = serializers.IntegerField(source="quote.appeal_seconds")
    return_seconds = serializers.IntegerField(source="quote.return_seconds")
    bond = WeiSerializerField(source="quote.bond")
    parameter_version = serializers.IntegerField(source="quote.parameter_version")


class StakeAmountSerializer(serializers.Serializer[Any]):
    amount = WeiSerializerField()


class DatanetStakeView(APIView):
    """What a Datanet asks for with each contribution; its owner sets the amount."""

    permission_classes = (IsAuthenticatedOrReadOnly,)

    @extend_schema(responses=StakeTermsSerializer)
    def get(self, request: Request, slug: str) -> Response:
        return Response(StakeTermsSerializer(stakes.terms(_datanet(request, slug))).data)

    @extend_schema(request=StakeAmountSerializer, responses=StakeTermsSerializer)
    def put(self, request: Request, slug: str) -> Response:
        """Ask for this amount from now on, in wei; 0 asks for nothing. Locked stakes stay."""
        datanet = _datanet(request, slug)
        values = _checked(StakeAmountSerializer, request)
        user: Any = request.user
        try:
            set_stake_amount(datanet=datanet, acting_user=user, at=timezone.now(), **values)
        except DatanetError as error:
            body = {"code": error.code, "message": error.message}
            return Response(body, status=error.status)
        return Response(StakeTermsSerializer(stakes.terms(datanet)).data)


class ContributionStakeView(APIView):
    """The newest stake of a contribution that one may see; 404 where there is none."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(responses=StakeSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        standing = stakes.standing(_contribution(request, pk))
        if standing is None:
            return Response({"code": "NO_STAKE", "message": "Nothing was staked."}, status=404)
        staked: Any = standing.staked
        staked.returns_at = standing.returns_at
        return Response(StakeSerializer(staked).data)


class ContributionSlashesView(APIView):
    """Propose a slash of a contribution's stake, as its Datanet's owner or reviewer."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(request=SlashProposalSerializer, responses={201: SlashSerializer})
    def post(self, request: Request, pk: UUID) -> Response:
        contribution = _contribution(request, pk)
        values = _checked(SlashProposalSerializer, request)
        return _answer(
            request, slashing.propose_slash, status=201, contribution=contribution, **values
        )


class SlashesView(generics.ListAPIView[Slash]):
    """What was taken, for all; and open slashes of the people concerned. The newest first."""

    queryset = Slash.objects.none()
    serializer_class = SlashSerializer

    def get_queryset(self) -> QuerySet[Slash]:
        return _visible(self.request).order_by("-id")


class SlashView(generics.RetrieveAPIView[Slash]):
    queryset = Slash.objects.none()
    serializer_class = SlashSerializer

    def get_queryset(self) -> QuerySet[Slash]:
        return _visible(self.request)


class AppealView(APIView):
    """Appeal a slash of one's own stake; locks the bond."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(request=SlashAppealSerializer, responses=SlashSerializer)
    @idempotent
    def post(self, request: Request, pk: UUID, key: str) -> Response:
        slash = get_object_or_404(_visible(request), pk=pk)
        return _answer(
            request, slashing.appeal_slash, slash=slash, **_checked(SlashAppealSerializer, request)
        )


class DecisionView(APIView):
    """Decide an appeal, as staff or as the Datanet's owner; never one's own proposal."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(request=SlashDecisionSerializer, responses=SlashSerializer)
    @idempotent
    def post(self, request: Request, pk: UUID, key: str) -> Response:
        slash = get_object_or_404(_visible(request), pk=pk)
        return _answer(
            request,
            slashing.decide_appeal,
            slash=slash,
            **_checked(SlashDecisionSerializer, request),
        )


def _contribution(request: Request, pk: UUID) -> Contribution:
    visible = Contribution.objects.visible_to(request.user).select_related("datanet")
    return get_object_or_404(visible, pk=pk)


def _datanet(request: Request, slug: str) -> Datanet:
    found: Datanet = get_object_or_404(Datanet.objects.visible_to(request.user), slug=slug)
    return found


def _visible(request: Any) -> QuerySet[Slash]:
    return Slash.objects.visible_to(request.user).with_people().prefetch_related("records")


def _checked(serializer: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    given = serializer(data=request.data)
    given.is_valid(raise_exception=True)
    return dict(given.validated_data)


def _answer(
    request: Request, service: Callable[..., Any], *, status: int = 200, **values: Any
) -> Response:
    """Call the service as the caller; a refusal is its code and sentence."""
    try:
        made = service(acting_user=request.user, at=timezone.now(), **values)
    except DatanetError as error:
        body = {"code": error.code, "message": error.message}
        return Response(body, status=error.status)
    slash = _visible(request).get(pk=(made or values["slash"]).pk)
    return Response(SlashSerializer(slash).data, status=status)
