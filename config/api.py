"""The status of the instance by API: for monitors and for strangers who audit."""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config import status
from config.models import Reconciliation

COUNT = serializers.CharField(help_text="A whole number as a decimal string.")
FINDING = inline_serializer(
    "Comparison",
    {
        "name": serializers.CharField(),
        "expected": COUNT,
        "found": serializers.CharField(),
        "difference": serializers.CharField(),
        "holds": serializers.BooleanField(),
        "detail": serializers.CharField(),
    },
)


class ReconciliationSerializer(serializers.ModelSerializer[Reconciliation]):
    class Meta:
        model = Reconciliation
        fields = ("id", "created_at", "ended_at", "holds", "problem")


class StatusView(APIView):
    """How the books compared last, and how far chain, log and payouts are."""

    permission_classes = (AllowAny,)

    @extend_schema(
        responses=inline_serializer(
            "Status",
            {
                "reconciliation": ReconciliationSerializer(allow_null=True),
                "findings": serializers.ListField(child=FINDING),
                "chain": serializers.DictField(allow_null=True),
                "log": serializers.DictField(allow_null=True),
                "epoch": serializers.IntegerField(allow_null=True),
                "workers": serializers.DictField(child=serializers.IntegerField()),
            },
        ),
        operation_id="status_retrieve",
    )
    def get(self, request: Request) -> Response:
        told = status.overview(at=timezone.now())
        last = told.books.last
        return Response(
            {
                "reconciliation": ReconciliationSerializer(last).data if last else None,
                "findings": last.findings if last else [],
                "chain": _chain(told),
                "log": _log(told),
                "epoch": told.distribution.epoch if told.distribution else None,
                "workers": told.workers,
            }
        )


def _chain(told: status.Overview) -> dict[str, Any] | None:
    head = told.chain
    if head is None:
        return None
    return {
        "chain_id": head.chain_id,
        "number": head.number,
        "safe": head.safe_number,
        "final": head.final_number,
        "checked_at": head.checked_at,
        "problem": head.told,
    }


def _log(told: status.Overview) -> dict[str, Any] | None:
    checkpoint = told.checkpoint
    if checkpoint is None:
        return None
    return {"size": checkpoint.size, "root": checkpoint.root, "state": checkpoint.state}
