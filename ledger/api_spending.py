"""One's own spending by API: holds, the budget of the month, and topping up from earnings."""

from typing import Any

from django.db.models import QuerySet
from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.fields import WeiSerializerField
from ledger import reading, spending
from ledger.errors import LedgerError
from ledger.models import Hold
from ledger.services.budgets import drop_budget, set_budget
from ledger.services.topups import set_top_up
from ledger.spending import BudgetView as Budget
from ledger.spending import TopUpView as TopUp


class HoldSerializer(serializers.ModelSerializer[Hold]):
    returned = WeiSerializerField(
        read_only=True, help_text="Wei that came back; 0 while it is held."
    )

    refunded = WeiSerializerField(
        read_only=True, help_text="Wei of the fee that were given back after it was captured."
    )
    refund_entry = serializers.UUIDField(
        source="refund.entry_id", read_only=True, default=None, allow_null=True
    )

    class Meta:
        model = Hold
        fields = (
            "id",
            "state",
            "cause_kind",
            "cause_id",
            "amount",
            "captured",
            "returned",
            "created_at",
            "expires_at",
            "closed_at",
            "reason",
            "opened_by",
            "closed_by",
            "refunded",
            "refund_entry",
        )


class HoldsView(generics.ListAPIView[Hold]):
    """One's own holds, the newest first; `?state=` PENDING, CAPTURED or RELEASED."""

    queryset = Hold.objects.none()
    serializer_class = HoldSerializer
    permission_classes = (IsAuthenticated,)
    filterset_fields = ("state",)

    def get_queryset(self) -> QuerySet[Hold]:
        user: Any = self.request.user
        return spending.holds(user) if user.is_authenticated else Hold.objects.none()


class BudgetSerializer(serializers.Serializer[Budget]):
    """Wei; `left` is what the limit leaves beside what was spent and is held."""

    limit = WeiSerializerField(source="budget.limit")
    hard_stop = serializers.BooleanField(source="budget.hard_stop", default=False)
    spent = WeiSerializerField(read_only=True)
    held = WeiSerializerField(read_only=True)
    left = WeiSerializerField(read_only=True)


class TopUpSerializer(serializers.Serializer[TopUp]):
    """When the spendable balance falls below `below`, `amount` of the earnings become spendable."""

    is_on = serializers.BooleanField(source="rule.is_on")
    below = WeiSerializerField(source="rule.below")
    amount = WeiSerializerField(source="rule.amount")
    monthly_limit = WeiSerializerField(source="rule.monthly_limit")
    moved = WeiSerializerField(read_only=True, help_text="Wei that it moved this month.")


class BudgetView(APIView):
    """The budget of the month, in UTC: told at 50, 80 and 100 %, and a stop where one wishes it."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(responses=BudgetSerializer, operation_id="budget_retrieve")
    def get(self, request: Request) -> Response:
        user: Any = request.user
        found = spending.budget_of(user, timezone.now())
        if found is None:
            raise Http404
        return Response(BudgetSerializer(found).data)

    @extend_schema(
        request=BudgetSerializer, responses=BudgetSerializer, operation_id="budget_update"
    )
    def put(self, request: Request) -> Response:
        user: Any = request.user
        body = BudgetSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        wish = body.validated_data["budget"]
        try:
            set_budget(user=user, **wish, acting_user=user, at=timezone.now())
        except LedgerError as error:
            return Response(reading.failure_of(error), status=400)
        return self.get(request)

    @extend_schema(responses={204: None}, operation_id="budget_destroy")
    def delete(self, request: Request) -> Response:
        user: Any = request.user
        drop_budget(user=user, acting_user=user, at=timezone.now())
        return Response(status=204)


class TopUpView(APIView):
    """The rule that makes one's own earnings spendable; off unless it is turned on."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(responses=TopUpSerializer, operation_id="top_up_retrieve")
    def get(self, request: Request) -> Response:
        user: Any = request.user
        found = spending.top_up_of(user, timezone.now())
        if found is None:
            raise Http404
        return Response(TopUpSerializer(found).data)

    @extend_schema(request=TopUpSerializer, responses=TopUpSerializer, operation_id="top_up_update")
    def put(self, request: Request) -> Response:
        user: Any = request.user
        body = TopUpSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        wish = body.validated_data["rule"]
        try:
            set_top_up(user=user, **wish, acting_user=user, at=timezone.now())
        except LedgerError as error:
            return Response(reading.failure_of(error), status=400)
        return self.get(request)
