"""Pages of deployments and of one's completions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import spreadsheets
from accounts.models import User
from accounts.spreadsheets import Amount, Cell
from ledger.selectors import refund_of, refunded_of
from ledger.words import open_text
from serving import answering, prompt_pieces, selectors, usage
from serving.citing import cited
from serving.errors import Refusal
from serving.forms import DeployForm, PriceForm, price_text
from serving.limits import BASE_INPUT_PRICE, BASE_OUTPUT_PRICE
from serving.models import Completion, Deployment
from serving.retrieval.prompting import terms_of as retrieval_terms
from serving.services import deployments as service

PER_PAGE = 25


@require_safe
def deployments(request: HttpRequest) -> HttpResponse:
    found = Deployment.objects.visible_to(request.user).with_parts()
    page = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    return render(request, "serving/deployments.html", {"page": page})


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def deploy(request: HttpRequest) -> HttpResponse:
    """The form names what is deployed; `?model=` or `?base=` chooses it beforehand."""
    user = _person(request)
    form = DeployForm(request.POST or None, user=user, initial=_wish(request))
    if request.method == "POST" and form.is_valid():
        try:
            made = service.deploy(**form.chosen(), acting_user=user, at=timezone.now())
        except Refusal as refusal:
            form.add_error(None, refusal.message)
        else:
            return redirect(made)
    return render(request, "serving/deploy.html", {"form": form})


@require_safe
def deployment(request: HttpRequest, name: str) -> HttpResponse:
    found = _visible(request, name)
    return render(
        request,
        "serving/deployment.html",
        {
            "deployment": found,
            "may_change": found.may_be_changed_by(request.user),
            "traffic": selectors.traffic_of(found),
            "base": selectors.base_deployment_of(found) if found.model_id else None,
            "address": f"{settings.SITE_URL}/v1",
            **retrieval_terms(found),
        },
    )


@login_required
@require_POST
def stop(request: HttpRequest, name: str) -> HttpResponse:
    found = _visible(request, name)
    try:
        service.stop(deployment=found, acting_user=_person(request), at=timezone.now())
    except Refusal as refusal:
        return _refused(request, found, refusal)
    return redirect(found)


@login_required
@require_POST
def start(request: HttpRequest, name: str) -> HttpResponse:
    """Deploy again what was stopped, at the prices that it had."""
    found = _visible(request, name)
    try:
        service.deploy(
            model=found.model,
            base_model=None if found.model else found.base_model,
            input_price=found.input_price,
            output_price=found.output_price,
            acting_user=_person(request),
            at=timezone.now(),
        )
    except Refusal as refusal:
        return _refused(request, found, refusal)
    return redirect(found)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def prices(request: HttpRequest, name: str) -> HttpResponse:
    found = _visible(request, name)
    form = PriceForm(request.POST) if request.method == "POST" else PriceForm.of(found)
    if request.method == "POST" and form.is_valid():
        try:
            service.set_prices(
                deployment=found,
                **form.cleaned_data,
                acting_user=_person(request),
                at=timezone.now(),
            )
        except Refusal as refusal:
            return _refused(request, found, refusal)
        messages.success(request, "The new prices hold for requests from now on.")
        return redirect(found)
    return render(request, "serving/prices.html", {"form": form, "deployment": found})


@login_required
@require_safe
def completions(request: HttpRequest) -> HttpResponse:
    user = _person(request)
    found, chosen = _chosen(request, user)
    page = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "usage": selectors.usage_of(found),
        "refunded": refunded_of(found),
        "chosen": chosen,
        "groups": usage.groups_of(found, chosen),
    }
    return render(request, "serving/completions.html", context)


@login_required
@require_safe
def completions_csv(request: HttpRequest) -> StreamingHttpResponse:
    found, _ = _chosen(request, _person(request))
    return spreadsheets.response("completions.csv", HEADER, _rows(found))


@login_required
@require_safe
def completion(request: HttpRequest, pk: UUID) -> HttpResponse:
    found = get_object_or_404(
        Completion.objects.visible_to(request.user).select_related(
            "deployment__base_model", "deployment__model", "api_key"
        ),
        pk=pk,
    )
    context = {
        "completion": found,
        "answer": cited(found),
        "refund": refund_of(found.pk),
    }
    return render(request, "serving/completion.html", context)


@require_safe
@never_cache
def prompt_tokens(request: HttpRequest, pk: UUID) -> HttpResponse:
    """A part under an answer: which tokens of the question mattered; empty where nobody knows."""
    found = get_object_or_404(
        Completion.objects.visible_to(request.user).select_related("deployment__base_model"), pk=pk
    )
    return render(request, "serving/prompt_tokens.html", {"pieces": prompt_pieces.pieces_of(found)})


@login_required
@require_POST
def cancel(request: HttpRequest, pk: UUID) -> HttpResponse:
    found = get_object_or_404(Completion.objects.visible_to(request.user), pk=pk)
    answering.stop(found)
    return redirect(found)


HEADER = [
    "time", "completion", "model", "key", "state", "tokens_read", "tokens_written",
    "held_wei", "fee_wei", "fee_open", "entry", "receipt",
]  # fmt: skip


async def _rows(found: QuerySet[Completion]) -> AsyncIterator[list[Cell]]:
    async for one in found.aiterator(chunk_size=500):
        yield [
            one.created_at,
            one.pk,
            one.deployment.name,
            str(one.api_key) if one.api_key else None,
            one.state,
            one.prompt_tokens,
            one.completion_tokens,
            one.highest_fee,
            one.fee,
            Amount(open_text(one.fee)),
            one.entry_id,
            one.receipt_id,
        ]


def _chosen(request: HttpRequest, user: User) -> tuple[QuerySet[Completion], usage.Filters]:
    chosen = usage.read_filters(request.GET.dict())
    # The texts, which nobody reads in a list, are what makes a row large.
    found = Completion.objects.visible_to(user).select_related("deployment", "api_key")
    heavy = ("messages", "prompt", "prompt_ids", "answer", "answer_ids")
    return chosen.apply(found.defer(*heavy)), chosen


def _visible(request: HttpRequest, name: str) -> Deployment:
    found: Deployment = get_object_or_404(
        Deployment.objects.visible_to(request.user).with_parts(), name=name
    )
    return found


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


def _wish(request: HttpRequest) -> dict[str, str]:
    """What the address asks for, with its price as a proposal."""
    model = selectors.model_by_slug_or_id(request.GET.get("model", ""))
    if model is not None:
        return {
            "what": f"model:{model.slug}",
            "input_price": price_text(model.input_price),
            "output_price": price_text(model.output_price),
        }
    return {
        "what": f"base:{request.GET.get('base', '')}",
        "input_price": price_text(BASE_INPUT_PRICE),
        "output_price": price_text(BASE_OUTPUT_PRICE),
    }


def _refused(request: HttpRequest, deployment: Deployment, refusal: Refusal) -> HttpResponse:
    messages.error(request, refusal.message)
    return redirect(deployment)
