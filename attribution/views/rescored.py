"""An answer that is scored once more: the wish, and the page of the receipt that comes of it."""

from __future__ import annotations

from typing import cast
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts.models import User
from attribution import rescored, selectors
from attribution.models import Receipt, Rescoring
from attribution.services import rescorings
from attribution.views.receipts import download, proof_of


@login_required
@require_POST
def ask(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Asked again, one comes to the same page."""
    found = get_object_or_404(Receipt.objects.private_to(request.user), pk=pk)
    try:
        made = rescorings.request_rescoring(
            receipt=found, acting_user=cast(User, request.user), at=timezone.now()
        )
    except rescorings.CannotRescoreError as error:
        messages.error(request, str(error))
        return redirect("attribution:receipt", pk=pk)
    return redirect(made)


@require_safe
@never_cache
def page(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Both receipts side by side; while it is computed, the page looks again by itself."""
    found = _of(request, pk)
    first = Receipt.objects.with_parts().seen_by(request.user).get(pk=found.receipt_id)
    context = {
        "rescoring": found,
        "receipt": first,
        "may_rescore": rescored.may_ask(first, request.user),
    }
    if found.is_done:
        context |= {
            "readings": rescored.readings_of(found, request.user),
            "is_private": Rescoring.objects.private_to(request.user).filter(pk=pk).exists(),
            "log_index": found.log_index,
        }
    return render(request, "attribution/rescored.html", context)


@require_safe
@never_cache
def proof(request: HttpRequest, pk: UUID) -> JsonResponse:
    """The public part, the place in the log, and the same of the receipt that it names."""
    done = Rescoring.objects.filter(state=Rescoring.State.DONE).select_related("receipt")
    return proof_of(get_object_or_404(done, pk=pk))


@require_safe
@never_cache
def private(request: HttpRequest, pk: UUID) -> JsonResponse:
    """Sketch and top records, for who may read those of the first receipt."""
    found = get_object_or_404(
        Rescoring.objects.private_to(request.user).select_related("receipt"), pk=pk
    )
    return download(selectors.private_of(found, request.user), f"receipt-{pk}-private.json")


def _of(request: HttpRequest, pk: UUID) -> Rescoring:
    rows = Rescoring.objects.visible_to(request.user).select_related("receipt")
    return get_object_or_404(rows, pk=pk)
