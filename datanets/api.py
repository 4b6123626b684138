"""Datanets, records, versions, contributions by API: reading, and deriving a Datanet.

What a viewer may not see is not there (404).
"""

from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import (
    OpenApiParameter,
    extend_schema,
    extend_schema_field,
    extend_schema_view,
)
from rest_framework import mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import APIException
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from datanets import lineage, selectors
from datanets.errors import DatanetError
from datanets.models import Contribution, Datanet, Record, Review, Version
from datanets.services.derivation import derive_datanet
from governance.selectors import current_parameters

SLUG = OpenApiParameter("slug", str, OpenApiParameter.PATH)
NUMBER = OpenApiParameter("number", int, OpenApiParameter.PATH)


class AncestorSerializer(serializers.Serializer[Any]):
    """A Datanet above another, and what passes on to its treasury, in percent of a credit."""

    datanet = serializers.SlugField(source="version.datanet.slug")
    number = serializers.IntegerField(source="version.number")
    state = serializers.CharField(source="version.datanet.state")
    percent = serializers.FloatField()


class DatanetSerializer(serializers.ModelSerializer[Datanet]):
    owner = serializers.SlugRelatedField[Any](slug_field="handle", read_only=True)
    accepted_count = serializers.IntegerField(read_only=True)
    latest_version = serializers.IntegerField(read_only=True, allow_null=True)
    derived_from = serializers.SerializerMethodField()

    class Meta:
        model = Datanet
        fields = [
            "id", "slug", "name", "summary", "description", "rules", "tags", "licence",
            "data_type", "state", "stake_amount", "owner", "accepted_count", "latest_version",
            "derived_from", "created_at", "published_at",
        ]  # fmt: skip

    @extend_schema_field(AncestorSerializer(many=True))
    def get_derived_from(self, datanet: Datanet) -> list[dict[str, Any]]:
        """Where it comes from, nearest first, without those that you do not see."""
        if datanet.derived_from_id is None:
            return []
        found = lineage.ancestry(datanet, current_parameters())
        request = self.context.get("request")
        seen = Datanet.objects.visible_to(request.user) if request else Datanet.objects.none()
        ids = set(
            seen.filter(pk__in=[one.datanet.pk for one in found]).values_list("pk", flat=True)
        )
        rows = [one for one in found if one.datanet.pk in ids]
        return list(AncestorSerializer(rows, many=True).data)


class DeriveBody(serializers.Serializer[Any]):
    """The card of a Datanet that begins with a version of another one."""

    name = serializers.CharField(max_length=80)
    summary = serializers.CharField(max_length=200)
    description = serializers.CharField(max_length=50_000, required=False)
    rules = serializers.CharField(max_length=20_000, required=False)
    tags = serializers.ListField(
        child=serializers.CharField(max_length=30), max_length=10, required=False
    )
    licence = serializers.CharField(max_length=40)


class Refused(APIException):
    """A refusal of a service as the API says it."""

    def __init__(self, error: DatanetError) -> None:
        super().__init__(error.message, code=error.code)
        self.status_code = error.status


class RecordSerializer(serializers.ModelSerializer[Record]):
    datanet = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    contributor = serializers.SlugRelatedField[Any](slug_field="handle", read_only=True)
    payload = serializers.SerializerMethodField()

    class Meta:
        model = Record
        fields = [
            "id", "datanet", "contributor", "contribution", "row", "licence", "content_hash",
            "payload", "length", "state", "statement", "created_at", "decided_at",
        ]  # fmt: skip

    def get_payload(self, record: Record) -> dict[str, Any] | None:
        """The text; null once it was withdrawn or taken down."""
        return None if record.is_withheld else record.payload


class VersionSerializer(serializers.ModelSerializer[Version]):
    datanet = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    previous = serializers.SlugRelatedField[Any](slug_field="number", read_only=True)
    manifest_sha256 = serializers.CharField(source="manifest_id", read_only=True)
    records_sha256 = serializers.CharField(source="records_file_id", read_only=True)

    class Meta:
        model = Version
        fields = [
            "id", "datanet", "number", "root", "record_count", "contributor_count", "licence",
            "manifest_sha256", "records_sha256", "previous", "note", "published_at",
        ]  # fmt: skip


class DatanetViewSet(viewsets.ReadOnlyModelViewSet[Datanet]):
    """Datanets that you see: published ones, and those in which you have a role."""

    queryset = Datanet.objects.none()
    serializer_class = DatanetSerializer
    lookup_field = "slug"

    def get_queryset(self) -> QuerySet[Datanet]:
        visible = Datanet.objects.visible_to(self.request.user).select_related("owner")
        return selectors.with_counts(visible).order_by("-id")


@extend_schema_view(list=extend_schema(parameters=[SLUG]))
class DatanetRecordViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[Record]):
    """Records of one Datanet; ?state= and ?q= filter, without state the accepted ones."""

    queryset = Record.objects.none()
    serializer_class = RecordSerializer

    def get_queryset(self) -> QuerySet[Record]:
        datanet = _datanet(self)
        return selectors.record_list(
            datanet,
            self.request.user,
            state=self.request.query_params.get("state", ""),
            words=self.request.query_params.get("q", "")[:200],
        ).select_related("datanet")


class RecordViewSet(mixins.RetrieveModelMixin, viewsets.GenericViewSet[Record]):
    """One record by its id."""

    queryset = Record.objects.none()
    serializer_class = RecordSerializer

    def get_queryset(self) -> QuerySet[Record]:
        return Record.objects.visible_to(self.request.user).select_related("datanet", "contributor")


@extend_schema_view(
    list=extend_schema(parameters=[SLUG]), retrieve=extend_schema(parameters=[SLUG, NUMBER])
)
class VersionViewSet(viewsets.ReadOnlyModelViewSet[Version]):
    """Versions of one Datanet by number."""

    queryset = Version.objects.none()
    serializer_class = VersionSerializer
    lookup_field = "number"

    @extend_schema(
        parameters=[SLUG, NUMBER], request=DeriveBody, responses={201: DatanetSerializer}
    )
    @action(detail=True, methods=["post"], permission_classes=[IsAuthenticated])
    def derive(self, request: Request, slug: str, number: int) -> Response:
        """Make a DRAFT Datanet of your own that begins with this version's records."""
        body = DeriveBody(data=request.data)
        body.is_valid(raise_exception=True)
        user: Any = request.user
        try:
            made = derive_datanet(
                version=self.get_object(),
                acting_user=user,
                at=timezone.now(),
                **dict(body.validated_data),
            )
        except DatanetError as error:
            raise Refused(error) from error
        counted = selectors.with_counts(Datanet.objects.filter(pk=made.pk)).get()
        context = self.get_serializer_context()
        return Response(DatanetSerializer(counted, context=context).data, status=201)

    def get_queryset(self) -> QuerySet[Version]:
        return Version.objects.filter(datanet=_datanet(self)).select_related("datanet", "previous")


class ReviewSerializer(serializers.ModelSerializer[Review]):
    class Meta:
        model = Review
        fields = ["id", "record", "verdict", "reason", "note", "created_at"]


class ContributionSerializer(serializers.ModelSerializer[Contribution]):
    datanet = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    submitter = serializers.SlugRelatedField[Any](slug_field="handle", read_only=True)

    class Meta:
        model = Contribution
        fields = [
            "id",
            "datanet",
            "submitter",
            "state",
            "name",
            "size",
            "licence",
            "mapping",
            "rows_read",
            "rows_good",
            "rows_refused",
            "rows_duplicate",
            "failure_code",
            "failure_reason",
            "created_at",
            "submitted_at",
        ]


class ContributionViewSet(viewsets.ReadOnlyModelViewSet[Contribution]):
    """One's own contributions, and those submitted to Datanets that one reviews."""

    queryset = Contribution.objects.none()
    serializer_class = ContributionSerializer
    permission_classes = [IsAuthenticated]

    def get_queryset(self) -> QuerySet[Contribution]:
        visible = Contribution.objects.visible_to(self.request.user)
        return visible.select_related("datanet", "submitter")


class ReviewViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[Review]):
    """The verdicts on the records of a contribution that one may see, with their reasons."""

    queryset = Review.objects.none()
    serializer_class = ReviewSerializer
    permission_classes = [IsAuthenticated]

    def get_queryset(self) -> QuerySet[Review]:
        visible = Contribution.objects.visible_to(self.request.user)
        contribution = get_object_or_404(visible, pk=self.kwargs["pk"])
        return Review.objects.filter(record__contribution=contribution).order_by("id")


def _datanet(view: viewsets.GenericViewSet[Any]) -> Datanet:
    visible = Datanet.objects.visible_to(view.request.user)
    found: Datanet = get_object_or_404(visible, slug=view.kwargs["slug"])
    return found
