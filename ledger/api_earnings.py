"""One's own earnings by API: entries, groups, what is on its way, and statements by month."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics, serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import pages
from accounts.fields import WeiSerializerField
from ledger import earnings, reading, selectors, statements
from ledger.errors import InvalidMonth
from ledger.models import Posting
from ledger.months import parse_month

FILTERS = [
    OpenApiParameter(name, str, description=words)
    for name, words in (
        ("datanet", 'Id of a Datanet, or "none" for what was earned as a model\'s owner.'),
        ("model", 'Id of a model, or "none".'),
        ("completion", "Id of a completion."),
        ("role", "As what it was earned: records, owner or royalty."),
        ("since", "First day, as 2026-11-30, in UTC."),
        ("until", "Last day, as 2026-11-30, in UTC."),
        ("day", "One day: the same as since and until."),
    )
]


class EarnedSerializer(serializers.ModelSerializer[Posting]):
    kind = serializers.CharField(source="entry.kind")
    effective_at = serializers.DateTimeField(source="entry.effective_at")
    receipt = serializers.SerializerMethodField(help_text="Path of the receipt's page.")
    role = serializers.CharField(
        read_only=True,
        help_text="records, owner, or royalty: then `model_id` is your model, an ancestor of the "
        "one that was asked.",
    )

    class Meta:
        model = Posting
        fields = (
            "entry",
            "kind",
            "effective_at",
            "amount",
            "datanet_id",
            "model_id",
            "completion_id",
            "receipt",
            "role",
        )

    def get_receipt(self, posting: Posting) -> str:
        return pages.url("receipt_of_completion", posting.completion_id)


@extend_schema(parameters=FILTERS)
class EarningsEntriesView(generics.ListAPIView[Posting]):
    """The postings by which the caller earned, the newest first."""

    queryset = Posting.objects.none()
    serializer_class = EarnedSerializer
    permission_classes = (IsAuthenticated,)

    def get_queryset(self) -> QuerySet[Posting]:
        user: Any = self.request.user
        if not user.is_authenticated:
            return Posting.objects.none()
        chosen = earnings.read_filters(self.request.query_params.dict())
        return chosen.apply(selectors.income(user))


class GroupSerializer(serializers.Serializer[earnings.Bar]):
    key = serializers.CharField(help_text='An id, a day, or "none".')
    name = serializers.CharField()
    amount = WeiSerializerField()
    count = serializers.IntegerField()


class GroupsSerializer(serializers.Serializer[Any]):
    role = GroupSerializer(many=True)
    datanet = GroupSerializer(many=True)
    model = GroupSerializer(many=True)
    day = GroupSerializer(many=True)
    completion = GroupSerializer(many=True)


class EarningsGroupsView(APIView):
    """Where the caller's earnings came from: the 20 largest of each group, the newest 20 days."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(
        parameters=FILTERS, responses=GroupsSerializer, operation_id="earnings_groups_retrieve"
    )
    def get(self, request: Request) -> Response:
        user: Any = request.user
        chosen = earnings.read_filters(request.query_params.dict())
        groups = earnings.groups_of(chosen.apply(selectors.income(user)), chosen)
        return Response(GroupsSerializer(groups).data)


class WaitingSerializer(serializers.Serializer[Any]):
    amount = WeiSerializerField()
    is_bound = serializers.BooleanField(help_text="Others share it: no more than this comes.")
    why = serializers.CharField()
    until = serializers.DateTimeField(allow_null=True)
    until_words = serializers.CharField(allow_blank=True)
    url = serializers.CharField(allow_blank=True)


class EarningsWaitingView(APIView):
    """What is on its way to the caller: why it waits and until when."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(
        responses=WaitingSerializer(many=True), operation_id="earnings_waiting_list", filters=False
    )
    def get(self, request: Request) -> Response:
        user: Any = request.user
        found = earnings.waiting(user, timezone.now())
        return Response(WaitingSerializer(found, many=True).data)


class LineSerializer(serializers.Serializer[statements.Line]):
    kind = serializers.CharField()
    count = serializers.IntegerField(help_text="Entries of the kind.")
    came = WeiSerializerField()
    went = WeiSerializerField()
    net = WeiSerializerField()


class AccountLinesSerializer(serializers.Serializer[statements.AccountLines]):
    account = serializers.UUIDField(source="account.pk")
    account_kind = serializers.CharField(source="account.kind")
    opening = WeiSerializerField()
    lines = LineSerializer(many=True)
    closing = WeiSerializerField()


class StatementSerializer(serializers.Serializer[statements.Statement]):
    """A month in UTC; opening, net of the lines and closing agree to the wei."""

    month = serializers.DateField(help_text="Its first day.")
    is_open = serializers.BooleanField(help_text="The month goes on.")
    opening = WeiSerializerField()
    closing = WeiSerializerField()
    accounts = AccountLinesSerializer(many=True)


class StatementsView(APIView):
    """The months for which the caller has a statement, the newest first."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(
        responses={200: serializers.ListSerializer(child=serializers.CharField())},
        operation_id="statements_months",
    )
    def get(self, request: Request) -> Response:
        user: Any = request.user
        return Response([f"{month:%Y-%m}" for month in statements.months(user, timezone.now())])


class StatementView(APIView):
    """The caller's statement of one month, written as 2026-11."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(responses=StatementSerializer, operation_id="statements_retrieve")
    def get(self, request: Request, month: str) -> Response:
        user: Any = request.user
        try:
            found = statements.statement(user, parse_month(month), timezone.now())
        except InvalidMonth as error:
            return Response(reading.failure_of(error), status=400)
        return Response(StatementSerializer(found).data)
