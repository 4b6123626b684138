"""API of the public graph: its lines, and who leads."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import generics, serializers
from rest_framework.exceptions import NotFound, ValidationError

from accounts.fields import WeiSerializerField
from attribution import graph
from attribution.models import ContributorShare

PERIOD = OpenApiParameter("period", str, enum=list(graph.PERIODS), description="Default: all.")

PAYER = OpenApiParameter(
    "payer",
    str,
    enum=["others"],
    description="Of who or what is chosen, only what others paid, as leaderboards count it.",
)


class PaymentSerializer(serializers.ModelSerializer[ContributorShare]):
    """One way through the graph; names are null where you may not know them, ids never are."""

    datanet = serializers.SerializerMethodField(help_text="Slug or null.")
    model = serializers.SerializerMethodField(help_text="Slug or null.")
    model_id = serializers.UUIDField(source="answering_model.pk", allow_null=True)
    completion_id = serializers.UUIDField(source="receipt.completion_id")
    contributor = serializers.SlugRelatedField[Any](slug_field="handle", read_only=True)
    entry_id = serializers.UUIDField(source="receipt.entry_id", allow_null=True)
    kept = WeiSerializerField(read_only=True, help_text="Wei that its owner was paid.")
    at = serializers.DateTimeField(source="receipt.at")

    class Meta:
        model = ContributorShare
        fields = [
            "at", "datanet", "datanet_id", "model", "model_id", "completion_id", "receipt_id",
            "kind", "contributor", "contributor_id", "share_ppb", "amount", "kept", "entry_id",
        ]  # fmt: skip

    def get_datanet(self, share: Any) -> str | None:
        return share.datanet.slug if share.datanet_is_visible else None

    def get_model(self, share: Any) -> str | None:
        return share.answering_model.slug if share.model_is_visible else None


class LeaderSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField(source="pk")
    name = serializers.CharField(help_text="Handle or slug.")
    amount = WeiSerializerField(help_text="Wei that others paid, less what passed on to ancestors.")
    answers = serializers.IntegerField()


@extend_schema_view(
    get=extend_schema(
        operation_id="graph_list",
        parameters=[
            *(OpenApiParameter(name, OpenApiTypes.UUID) for name in graph.CHOICES),
            PERIOD,
            PAYER,
        ],
    )
)
class GraphView(generics.ListAPIView[ContributorShare]):
    """Datanet, model, completion and payment of every credit, newest first. Open to everyone."""

    serializer_class = PaymentSerializer
    queryset = ContributorShare.objects.none()
    filter_backends = ()
    permission_classes = ()

    def get_queryset(self) -> QuerySet[ContributorShare]:
        asked = self.request.query_params
        try:
            chosen = {name: UUID(asked[name]) for name in graph.CHOICES if asked.get(name)}
        except ValueError as error:
            raise ValidationError("contributor, datanet and model are ids.") from error
        period = _period(asked.get("period", "all"))
        by_others = asked.get("payer") == "others"
        return graph.payments(
            self.request.user, at=timezone.now(), period=period, by_others=by_others, **chosen
        )


@extend_schema_view(
    get=extend_schema(
        operation_id="leaderboards_list",
        parameters=[
            OpenApiParameter("kind", str, OpenApiParameter.PATH),
            PERIOD,
        ],
    )
)
class LeaderboardView(generics.ListAPIView[Any]):
    """`kind` is contributors, datanets or models; who was paid most comes first."""

    serializer_class = LeaderSerializer
    queryset = ContributorShare.objects.none()
    filter_backends = ()
    permission_classes = ()

    def get_queryset(self) -> Any:  # kept totals are a sequence of their own
        kind = self.kwargs.get("kind", "contributors")
        if kind not in graph.KINDS:
            raise NotFound("The leaderboards are contributors, datanets and models.")
        period = _period(self.request.query_params.get("period", "all"))
        return graph.leaders(kind, self.request.user, at=timezone.now(), period=period)


def _period(text: str) -> str:
    if text not in graph.PERIODS:
        raise ValidationError(f"period is one of {', '.join(graph.PERIODS)}.")
    return text
