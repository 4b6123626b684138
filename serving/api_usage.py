"""Prices before asking, and what was spent, by API."""

from __future__ import annotations

from typing import Any

import msgspec
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.fields import WeiSerializerField
from ledger.selectors import refunded_of
from serving import selectors, usage
from serving.api import Refused
from serving.engine.merges import HIGHEST_WEIGHT, MergeKind
from serving.errors import Refusal
from serving.merges import resolve
from serving.models import Completion
from serving.openai_api import bodies
from serving.services.completions import quote, refusal_of


class BlendedAdapterBody(serializers.Serializer[Any]):
    """One of the adapters that answer as one, on the base that the request's model is."""

    model = serializers.CharField(help_text="Name of a live deployment of an adapter.")
    weight = serializers.FloatField(
        min_value=-HIGHEST_WEIGHT, max_value=HIGHEST_WEIGHT, help_text="Not 0; six decimals count."
    )


class BlendBody(serializers.Serializer[Any]):
    """How adapters are merged: `density` is the part of their numbers that is kept, `seed` draws
    which, where the method drops some at random."""

    method = serializers.ChoiceField([one.value for one in MergeKind], required=False)
    density = serializers.FloatField(required=False, help_text="Above 0, at most 1.")
    seed = serializers.IntegerField(required=False, min_value=0)


class QuoteBody(serializers.Serializer[Any]):
    """The body that would go to /v1/chat/completions (messages) or /v1/completions (prompt)."""

    model = serializers.CharField()
    messages = serializers.ListField(child=serializers.DictField(), required=False)
    prompt = serializers.CharField(required=False)
    max_tokens = serializers.IntegerField(required=False, min_value=1)
    adapters = BlendedAdapterBody(
        many=True,
        required=False,
        help_text="Adapters to merge; `model` is then their base.",
    )
    merge = BlendBody(required=False)


class QuoteSerializer(serializers.Serializer[Any]):
    model = serializers.CharField()
    prompt_tokens = serializers.IntegerField()
    max_tokens = serializers.IntegerField()
    input_price = WeiSerializerField(help_text="Wei for a token that is read.")
    output_price = WeiSerializerField(help_text="Wei for a token that is written.")
    highest_fee = WeiSerializerField(help_text="Wei that would be held; no more is ever charged.")
    affordable = serializers.BooleanField(help_text="It would be held now.")
    code = serializers.CharField(allow_blank=True, help_text="Why not, for machines.")
    message = serializers.CharField(allow_blank=True, help_text="Why not, for people.")


class QuoteView(APIView):
    """What a question costs at most, without asking it; nothing is held."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(request=QuoteBody, responses=QuoteSerializer, operation_id="quotes_create")
    def post(self, request: Request) -> Response:
        user: Any = request.user
        raw = msgspec.json.encode(request.data)
        is_text = isinstance(request.data, dict) and "prompt" in request.data
        try:
            body = (
                bodies.read(raw, bodies.TextBody) if is_text else bodies.read(raw, bodies.ChatBody)
            )
            deployment = selectors.usable_deployment(name=body.model, user=user)
            wish, at = body.merge_wish(), timezone.now()
            merge = None
            if wish is not None:
                merge = resolve(wish=wish, deployment=deployment, user=user, at=at)
            offer = quote(
                deployment=deployment,
                question=body.question(),
                max_tokens=body.checked_sampling().max_tokens,
                merge=merge,
            )
        except Refusal as refusal:
            raise Refused(refusal) from refusal
        refused = refusal_of(payer=user, offer=offer, at=at)
        told = {
            "model": deployment.name,
            "prompt_tokens": len(offer.prompt.ids),
            "max_tokens": offer.max_tokens,
            "input_price": (merge or deployment).input_price,
            "output_price": (merge or deployment).output_price,
            "highest_fee": offer.highest_fee,
            "affordable": refused is None,
            "code": refused.code if refused else "",
            "message": refused.message if refused else "",
        }
        return Response(QuoteSerializer(told).data)


class UsageBarSerializer(serializers.Serializer[usage.Bar]):
    key = serializers.CharField(help_text="A model's name, a key's id or \"none\", a day.")
    name = serializers.CharField()
    amount = WeiSerializerField(help_text="Wei spent.")
    count = serializers.IntegerField(help_text="Completions.")


class UsageSerializer(serializers.Serializer[Any]):
    completions = serializers.IntegerField()
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    fee = WeiSerializerField()
    refunded = WeiSerializerField(help_text="Wei of these fees that were given back.")
    model = UsageBarSerializer(many=True)
    key = UsageBarSerializer(many=True)
    day = UsageBarSerializer(many=True)


class UsageView(APIView):
    """What the caller asked and spent, by model, key and day."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(
        parameters=[
            OpenApiParameter("model", str, description="Name of a deployment."),
            OpenApiParameter("key", str, description='Id of an API key, or "none".'),
            OpenApiParameter("since", str, description="First day, as 2026-11-30, in UTC."),
            OpenApiParameter("until", str, description="Last day, as 2026-11-30, in UTC."),
        ],
        responses=UsageSerializer,
        operation_id="usage_retrieve",
    )
    def get(self, request: Request) -> Response:
        chosen = usage.read_filters(request.query_params.dict())
        found = chosen.apply(Completion.objects.visible_to(request.user))
        told = (
            {"refunded": refunded_of(found)}
            | selectors.usage_of(found)
            | usage.groups_of(found, chosen)
        )
        return Response(UsageSerializer(told).data)
