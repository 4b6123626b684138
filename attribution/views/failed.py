"""What could not be computed: the staff's page of it, and having it tried again."""

from __future__ import annotations

from typing import cast
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts import pages
from accounts.models import User
from attribution import failures
from attribution.models import Attribution
from attribution.services import trying_again

PER_PAGE = 25


@login_required
@require_safe
@never_cache
def failed(request: HttpRequest) -> HttpResponse:
    """Indexes and answers that failed, and why. For staff."""
    if not cast(User, request.user).is_staff:
        raise PermissionDenied
    indexes = failures.failed_indexes()
    answers = Paginator(failures.failed_answers(), PER_PAGE)
    context = {
        "indexes": indexes[: failures.SHOWN],
        "more_indexes": max(0, indexes.count() - failures.SHOWN),
        "span_indexes": failures.failed_span_indexes()[: failures.SHOWN],
        "page": answers.get_page(request.GET.get("page")),
    }
    return render(request, "attribution/failed.html", context)


@login_required
@require_POST
def try_all_again(request: HttpRequest) -> HttpResponse:
    tried = trying_again.try_all_again(acting_user=cast(User, request.user), at=timezone.now())
    messages.success(
        request, f"Indexes that go on: {tried.indexes}; answers: {tried.attributions}."
    )
    return redirect("attribution:failed")


@login_required
@require_POST
def try_answer_again(request: HttpRequest, completion_id: UUID) -> HttpResponse:
    """From the panel under an answer, or from the staff's page; back to where it was asked."""
    found = get_object_or_404(Attribution, completion_id=completion_id)
    user = cast(User, request.user)
    trying_again.try_answer_again(attribution=found, acting_user=user, at=timezone.now())
    if request.headers.get("HX-Request") == "true":
        return redirect("attribution:panel", completion_id)
    if found.payer_id == user.pk and (own := pages.url("completion", completion_id)):
        return redirect(own)
    return redirect("attribution:failed")
