"""Reading API: receipts and indexes."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Prefetch, QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.fields import WeiSerializerField
from attribution import rescored, selectors
from attribution.api_exact_audits import ExactAuditSerializer
from attribution.api_rescorings import RescoringSerializer
from attribution.models import ContributorShare, ExactAudit, Index, Receipt, ReceiptParent
from attribution.services import exact_audits, rescorings


class ShareSerializer(serializers.ModelSerializer[ContributorShare]):
    contributor = serializers.SlugRelatedField[Any](slug_field="handle", read_only=True)
    datanet = serializers.SerializerMethodField(
        help_text="Slug; null where you may not see the Datanet, whose id is in `public`."
    )
    influence = WeiSerializerField(read_only=True, help_text="The integer score, as digits.")

    class Meta:
        model = ContributorShare
        fields = ["kind", "contributor", "datanet", "influence", "share_ppb", "amount", "passed_on"]

    def get_datanet(self, share: Any) -> str | None:
        return share.datanet.slug if share.datanet_is_visible else None


class ReceiptParentSerializer(serializers.ModelSerializer[ReceiptParent]):
    """One of several models that answered as one."""

    model = serializers.SerializerMethodField(help_text="Slug; null where you may not see it.")

    class Meta:
        model = ReceiptParent
        fields = ["model", "model_id", "weight_ppm", "share_ppb"]

    def get_model(self, parent: Any) -> str | None:
        return parent.model.slug if parent.model_is_visible else None


class ReceiptSerializer(serializers.ModelSerializer[Receipt]):
    model = serializers.SerializerMethodField(
        help_text="Slug; null for a base model, and where you may not see the model."
    )
    parents = ReceiptParentSerializer(
        many=True, read_only=True, help_text="The models of a merge; empty where one answered."
    )
    shares = ShareSerializer(many=True, read_only=True)
    log_index = serializers.IntegerField(read_only=True, allow_null=True)
    refunded = WeiSerializerField(
        read_only=True, allow_null=True, help_text="Wei of the fee that were given back."
    )

    class Meta:
        model = Receipt
        fields = [
            "id", "completion_id", "model", "outcome", "fee", "amount", "entry_id", "at",
            "leaf_hash", "log_index", "refunded", "parents", "shares", "public",
        ]  # fmt: skip

    def get_model(self, receipt: Any) -> str | None:
        return receipt.model.slug if receipt.model_is_visible else None


class IndexSerializer(serializers.ModelSerializer[Index]):
    model = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)

    class Meta:
        model = Index
        fields = [
            "id", "model", "state", "done", "total", "root", "manifest", "device", "seconds",
            "ready_at", "failure_reason",
        ]  # fmt: skip


@extend_schema_view(
    list=extend_schema(
        parameters=[
            OpenApiParameter("model", str, description="Slug of a model."),
            OpenApiParameter("completion", OpenApiTypes.UUID, description="Id of a completion."),
            OpenApiParameter("mine", str, enum=["paid", "earned"]),
        ]
    )
)
class ReceiptViewSet(viewsets.ReadOnlyModelViewSet[Receipt]):
    """Receipts, newest first. Their public part is open to everyone."""

    queryset = Receipt.objects.none()
    serializer_class = ReceiptSerializer

    def get_queryset(self) -> QuerySet[Receipt]:
        asked = self.request.query_params
        shares = ContributorShare.objects.seen_by(self.request.user).select_related(
            "contributor", "datanet"
        )
        found = selectors.receipts_for(
            self.request.user, mine=asked.get("mine", ""), model=asked.get("model", "")
        )
        parents = ReceiptParent.objects.seen_by(self.request.user).select_related("model")
        found = found.prefetch_related(None).prefetch_related(
            Prefetch("shares", queryset=shares), Prefetch("parents", queryset=parents)
        )
        if completion := asked.get("completion"):
            try:
                return found.filter(completion_id=UUID(completion))
            except ValueError:
                return found.none()
        return found

    @extend_schema(responses=OpenApiTypes.OBJECT)
    @action(detail=True)
    def proof(self, request: Request, pk: str) -> Response:
        """The public part with its inclusion proof; 404 while it waits for its place."""
        bundle = selectors.bundle_of(self.get_object())
        if bundle is None:
            raise NotFound("The receipt waits for its place in the log.")
        return Response(bundle)

    @extend_schema(responses=OpenApiTypes.OBJECT)
    @action(detail=True)
    def private(self, request: Request, pk: str) -> Response:
        """Sketch and top records: for the payer, who is credited, and staff. Salts: the payer."""
        found = get_object_or_404(Receipt.objects.private_to(request.user), pk=pk)
        return Response(selectors.private_of(found, request.user))

    @extend_schema(responses=RescoringSerializer(many=True))
    @action(detail=True)
    def rescorings(self, request: Request, pk: str) -> Response:
        """Receipts that score this answer once more, newest first."""
        found = rescored.rescorings_of(self.get_object(), request.user)
        return Response(RescoringSerializer(found, many=True).data)

    @extend_schema(request=None, responses=RescoringSerializer)
    @action(detail=True, methods=["post"], permission_classes=[IsAuthenticated])
    def rescore(self, request: Request, pk: str) -> Response:
        """Have the answer scored once more by its model's index of now: for the payer, who is
        credited, and staff. Asked again, it answers with the same one."""
        user: Any = request.user
        found = get_object_or_404(Receipt.objects.private_to(user), pk=pk)
        try:
            made = rescorings.request_rescoring(receipt=found, acting_user=user, at=timezone.now())
        except rescorings.CannotRescoreError as error:
            raise ValidationError(str(error)) from error
        return Response(RescoringSerializer(made).data)

    @extend_schema(responses=ExactAuditSerializer(many=True))
    @action(detail=True)
    def exact_audits(self, request: Request, pk: str) -> Response:
        """Audits of this receipt by the exact influence, newest first."""
        found = ExactAudit.objects.visible_to(request.user).filter(receipt=self.get_object())
        return Response(ExactAuditSerializer(found, many=True).data)

    @extend_schema(request=None, responses=ExactAuditSerializer)
    @action(detail=True, methods=["post"], permission_classes=[IsAuthenticated])
    def audit_exactly(self, request: Request, pk: str) -> Response:
        """Hold the receipt against the exact influence, through its model's run trained once
        more: for the payer, who is credited, and staff. Asked again, it answers with the same."""
        user: Any = request.user
        found = get_object_or_404(Receipt.objects.private_to(user), pk=pk)
        try:
            made = exact_audits.request_exact_audit(
                receipt=found, acting_user=user, at=timezone.now()
            )
        except rescorings.CannotRescoreError as error:
            raise ValidationError(str(error)) from error
        return Response(ExactAuditSerializer(made).data)


class IndexViewSet(viewsets.ReadOnlyModelViewSet[Index]):
    """Indexes of models that you see, by the model's slug."""

    queryset = Index.objects.none()
    serializer_class = IndexSerializer
    lookup_field = "model__slug"
    lookup_url_kwarg = "slug"

    def get_queryset(self) -> QuerySet[Index]:
        return selectors.indexes_for(self.request.user)
