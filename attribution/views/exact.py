"""A disputed receipt beside the exact influence: ask, watch, read."""

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
from attribution import rescored
from attribution.exact_readings import exact_readings_of
from attribution.models import ExactAudit, Receipt
from attribution.services import exact_audits
from attribution.services.rescorings import CannotRescoreError
from attribution.views.receipts import proof_of


@login_required
@require_POST
def ask(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Asked again, one comes to the same page."""
    found = get_object_or_404(Receipt.objects.private_to(request.user), pk=pk)
    try:
        made = exact_audits.request_exact_audit(
            receipt=found, acting_user=cast(User, request.user), at=timezone.now()
        )
    except CannotRescoreError as error:
        messages.error(request, str(error))
        return redirect("attribution:receipt", pk=pk)
    return redirect(made)


@require_safe
@never_cache
def page(request: HttpRequest, pk: UUID) -> HttpResponse:
    """How far it is, then both shares side by side."""
    rows = ExactAudit.objects.visible_to(request.user)
    found = get_object_or_404(rows, pk=pk)
    first = Receipt.objects.with_parts().seen_by(request.user).get(pk=found.receipt_id)
    context = {
        "audit": found,
        "receipt": first,
        "may_ask": rescored.may_ask(first, request.user),
    }
    if found.is_done:
        context |= {
            "readings": exact_readings_of(found, first, request.user),
            "log_index": found.log_index,
        }
    return render(request, "attribution/exact.html", context)


@require_safe
@never_cache
def proof(request: HttpRequest, pk: UUID) -> JsonResponse:
    """What the log was told, its place, and the same of the receipt that it audits."""
    done = ExactAudit.objects.filter(state=ExactAudit.State.DONE).select_related("receipt")
    return proof_of(get_object_or_404(done, pk=pk))
