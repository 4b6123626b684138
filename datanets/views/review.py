"""The review queue: a record, a verdict, the next record; and undo."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from datanets import access, clusters, selectors, stakes
from datanets.errors import DatanetError
from datanets.forms import VerdictForm
from datanets.models import Datanet, Record, Verdict
from datanets.services import reviews
from datanets.views.common import person, tab_context, with_datanet

# The last verdicts of this browser, newest last, so that U can be pressed more than once.
SESSION_KEY = "datanets_verdicts"
KEPT = 50


@with_datanet("review")
@require_safe
def queue(request: HttpRequest, datanet: Datanet) -> HttpResponse:
    pending = selectors.review_queue(
        datanet,
        person(request),
        is_owner=access.may_own(request.user, datanet),
    )
    contribution = _identifier(request.GET.get("contribution"))
    if contribution:
        pending = pending.filter(contribution=contribution)
    record = pending.first()
    counts = selectors.record_counts(datanet)
    decided = counts["ACCEPTED"] + counts["REJECTED"]
    standing = stakes.standing(record.contribution) if record else None
    context = {
        **tab_context(request, datanet, "review"),
        "standing": standing,
        "may_propose": stakes.may_propose(request.user, standing),
        "record": record,
        "waiting": pending.count(),
        "decided": decided,
        "total": decided + counts["PENDING"],
        "form": VerdictForm(),
        "can_undo": bool(_batches(request, datanet)),
        "elsewhere": selectors.same_text_elsewhere(record)[:3] if record else [],
        "near": clusters.near_to(record, request.user) if record else [],
        "near_is_cut": record is not None and clusters.is_cut(record),
        "contribution_id": contribution,
    }
    return render(request, "datanets/review.html", context)


@with_datanet("review")
@require_POST
def decide(request: HttpRequest, datanet: Datanet, record_id: UUID) -> HttpResponse:
    """One record's verdict; then the next one."""
    if not Record.objects.filter(pk=record_id, datanet=datanet).exists():
        messages.error(request, "This record is not in this Datanet.")
        return _back(request, datanet)
    return _give(request, datanet, records=[record_id])


@with_datanet("review")
@require_POST
def decide_all(request: HttpRequest, datanet: Datanet) -> HttpResponse:
    """All that is pending, of one contribution where one is named."""
    if request.POST.get("sure") != "yes":
        messages.error(request, "Tick the box first: this decides many records at once.")
        return _back(request, datanet)
    wanted = _identifier(request.POST.get("contribution"))
    contribution = datanet.contributions.filter(pk=wanted).first() if wanted else None
    return _give(request, datanet, contribution=contribution)


@with_datanet("review")
@require_POST
def undo(request: HttpRequest, datanet: Datanet) -> HttpResponse:
    """Take back this browser's last verdict."""
    batches = _batches(request, datanet)
    if not batches:
        messages.error(request, "There is nothing to take back.")
        return _back(request, datanet)
    batch = batches.pop()
    _remember(request, datanet, batches)
    try:
        moved = reviews.undo_review(
            batch=UUID(batch),
            acting_user=person(request),
            at=timezone.now(),
        )
        messages.success(
            request, f"Taken back; {moved:,} verdict{'' if moved == 1 else 's'} to give again."
        )
    except DatanetError as error:
        messages.error(request, error.message)
    return _back(request, datanet)


def _give(request: HttpRequest, datanet: Datanet, **chosen: Any) -> HttpResponse:
    values = {
        "datanet": datanet,
        "acting_user": request.user,
        "at": timezone.now(),
        "note": request.POST.get("note", "")[:500],
        **chosen,
    }
    try:
        if request.POST.get("verdict") == Verdict.ACCEPTED:
            batch = reviews.accept_records(**values)
        elif request.POST.get("verdict") == Verdict.REJECTED:
            batch = reviews.reject_records(reason=request.POST.get("reason", ""), **values)
        else:
            raise DatanetError("VERDICT", "Choose accept or reject.")
    except DatanetError as error:
        messages.error(request, error.message)
        return _back(request, datanet)
    if batch is None:
        messages.warning(request, "Somebody else has decided this already.")
    else:
        _remember(request, datanet, [*_batches(request, datanet), str(batch)])
    return _back(request, datanet)


def _batches(request: HttpRequest, datanet: Datanet) -> list[str]:
    return list(request.session.get(SESSION_KEY, {}).get(str(datanet.pk), []))


def _remember(request: HttpRequest, datanet: Datanet, batches: list[str]) -> None:
    request.session[SESSION_KEY] = {str(datanet.pk): batches[-KEPT:]}


def _back(request: HttpRequest, datanet: Datanet) -> HttpResponse:
    url = reverse("datanets:review", args=[datanet.slug])
    contribution = _identifier(request.POST.get("contribution"))
    return redirect(f"{url}?contribution={contribution}" if contribution else url)


def _identifier(text: str | None) -> UUID | None:
    try:
        return UUID(text or "")
    except ValueError:
        return None
