"""API of receipts that score an answer once more."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from attribution import selectors
from attribution.models import Rescoring


class RescoringSerializer(serializers.ModelSerializer[Rescoring]):
    log_index = serializers.IntegerField(read_only=True, allow_null=True)
    public = serializers.JSONField(
        read_only=True,
        help_text="The body that the log carries the hash of; empty until it is DONE. It names the "
        "first receipt and moves no money. Of several models that answered as one its schema is "
        "openledger-rescoring-merge/1, and each of merge.parents has an index root, influences, "
        "shares and the difference of its own.",
    )
    index_root = serializers.CharField(
        read_only=True,
        help_text="By which the model was scored; empty until it is DONE, and of several models.",
    )
    index_roots = serializers.ListField(
        child=serializers.CharField(),
        read_only=True,
        help_text="The same of each model in their order, empty where all its records were "
        "withdrawn; no roots until it is DONE.",
    )

    class Meta:
        model = Rescoring
        fields = [
            "id", "receipt", "state", "asked_as", "failure_reason", "index_root",
            "index_roots", "at",
            "leaf_hash", "log_index", "public",
        ]  # fmt: skip


class RescoringViewSet(mixins.RetrieveModelMixin, viewsets.GenericViewSet[Rescoring]):
    """What is DONE is open to everyone, as every receipt; before, it is for who may ask for it."""

    queryset = Rescoring.objects.none()
    serializer_class = RescoringSerializer

    def get_queryset(self) -> QuerySet[Rescoring]:
        return Rescoring.objects.visible_to(self.request.user).select_related("receipt")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    @action(detail=True)
    def proof(self, request: Request, pk: str) -> Response:
        """The public part with its proof, and the receipt that it names; 404 while it waits."""
        found: Any = self.get_object()
        bundle = selectors.bundle_of(found) if found.is_done else None
        if bundle is None:
            raise NotFound("The receipt waits for its place in the log.")
        return Response(bundle)

    @extend_schema(responses=OpenApiTypes.OBJECT)
    @action(detail=True)
    def private(self, request: Request, pk: str) -> Response:
        """Sketch and top records: for the payer, who is credited, and staff. Salts: the payer."""
        mine = Rescoring.objects.private_to(request.user).select_related("receipt")
        return Response(selectors.private_of(get_object_or_404(mine, pk=pk), request.user))
