"""Receipts for people: the list, one of them, the panel under an answer, and the two JSON parts."""

from __future__ import annotations

from typing import cast
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from accounts.models import User
from attribution import rescored, selectors
from attribution.models import Attribution, ExactAudit, Receipt, Rescoring
from attribution.services import erasure
from attribution.services.trying_again import may_try_again

PER_PAGE = 25


@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """All receipts; `?mine=paid` and `?mine=earned` those of the reader, `?model=` of a model."""
    mine, model = request.GET.get("mine", ""), request.GET.get("model", "")
    found = selectors.receipts_for(request.user, mine=mine, model=model)
    page = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    return render(
        request, "attribution/receipts.html", {"page": page, "mine": mine, "model": model}
    )


@require_safe
@never_cache
def receipt(request: HttpRequest, pk: UUID) -> HttpResponse:
    found = get_object_or_404(Receipt.objects.with_parts().seen_by(request.user), pk=pk)
    context = {
        "receipt": found,
        "view": selectors.view_of(found, request.user),
        "rescorings": rescored.rescorings_of(found, request.user),
        "exact_audits": ExactAudit.objects.visible_to(request.user).filter(receipt=found),
        "may_rescore": rescored.may_ask(found, request.user),
    }
    return render(request, "attribution/receipt.html", context)


@require_safe
@never_cache
def receipt_for(request: HttpRequest, completion_id: UUID) -> HttpResponse:
    """To the receipt of a completion, which whoever earned from it may read, unlike the answer."""
    found = Receipt.objects.filter(completion_id=completion_id).first()
    if found is None:
        raise Http404("This completion has no receipt yet.")
    return redirect("attribution:receipt", pk=found.pk)


@require_safe
@never_cache
def panel(request: HttpRequest, completion_id: UUID) -> HttpResponse:
    """Under an answer: WAITING (asks again by itself), DONE or FAILED."""
    attribution = Attribution.objects.filter(completion_id=completion_id).first()
    if attribution is None:
        raise Http404("No receipt was asked for this completion.")
    context = {"attribution": attribution, "state": selectors.panel_state(attribution)}
    if context["state"] == "DONE":
        found = Receipt.objects.with_parts().get(attribution=attribution)
        context |= {"receipt": found, "view": selectors.view_of(found, request.user, brief=True)}
    else:
        context["may_try_again"] = may_try_again(attribution, request.user)
        if attribution.model_id:
            context["index"] = selectors.index_of(attribution.model_id)
    return render(request, "attribution/panel.html", context)


@require_safe
@never_cache
def proof(request: HttpRequest, pk: UUID) -> JsonResponse:
    """The public part with everything that shows it is in the log; verifiers read this file."""
    found = get_object_or_404(Receipt, pk=pk)
    return proof_of(found)


@require_safe
@never_cache
def private(request: HttpRequest, pk: UUID) -> JsonResponse:
    """The answer's sketch and the top records: for the payer, who is credited, and staff.

    The salts of prompt and answer are for the payer alone.
    """
    found = get_object_or_404(Receipt.objects.private_to(request.user), pk=pk)
    return download(selectors.private_of(found, request.user), f"receipt-{pk}-private.json")


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def erase(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Asks once more, then erases the private part; for the payer and staff."""
    found = get_object_or_404(Receipt.objects.with_parts().seen_by(request.user), pk=pk)
    user = cast(User, request.user)
    if not (user.is_staff or found.payer_id == user.pk):
        raise Http404("There is nothing here for you to erase.")
    if request.method == "POST":
        erasure.erase_private_part(receipt=found, acting_user=user, at=timezone.now())
        return redirect("attribution:receipt", pk=pk)
    return render(request, "attribution/erase.html", {"receipt": found})


def proof_of(receipt: Receipt | Rescoring | ExactAudit) -> JsonResponse:
    bundle = selectors.bundle_of(receipt)
    if bundle is None:
        answer = JsonResponse({"state": "WAITING", "detail": "It waits for its place."}, status=503)
        answer["Retry-After"] = "2"
        return answer
    kind = "exact-audit" if isinstance(receipt, ExactAudit) else "receipt"
    return download(bundle, f"{kind}-{receipt.pk}.json")


def download(value: dict[str, object], name: str) -> JsonResponse:
    answer = JsonResponse(value)
    answer["Content-Disposition"] = f'inline; filename="{name}"'
    return answer
