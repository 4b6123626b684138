"""Contribute, and follow what became of it."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.blobs import open_blob
from datanets import access, clusters, selectors, stakes
from datanets.errors import DatanetError
from datanets.ingest import rejects
from datanets.ingest.formats import accepted_endings
from datanets.ingest.mapping import SHAPE_LABELS, Shape
from datanets.licences import LICENCES, allowed_for
from datanets.models import Contribution, Datanet, Upload, UploadState
from datanets.models.records import WITHHELD
from datanets.services import contributions as services
from datanets.services import moderation, uploads
from datanets.views.common import act, person, tab_context, with_datanet
from datanets.views.downloads import download
from datanets.views.mapping import mapping_fields, rows_as_read


@with_datanet("contribute")
@require_http_methods(["GET", "HEAD", "POST"])
def contribute(request: HttpRequest, datanet: Datanet) -> HttpResponse:
    if request.method == "POST":
        return _plain_upload(request, datanet)
    now = timezone.now()
    context = {
        **tab_context(request, datanet, ""),
        "quota": uploads.quota(user=person(request), datanet=datanet, at=now),
        "endings": accepted_endings(),
        "chunk_bytes": uploads.CHUNK_BYTES,
        "unfinished": Upload.objects.filter(
            user=request.user.pk, datanet=datanet, state=UploadState.OPEN, expires_at__gt=now
        ),
    }
    return render(request, "datanets/contribute.html", context)


def _plain_upload(request: HttpRequest, datanet: Datanet) -> HttpResponse:
    """The way without scripts: the whole file in one form."""
    file = request.FILES.get("file")
    if file is None:
        messages.error(request, "Choose a file first.")
        return redirect("datanets:contribute", datanet.slug)
    now = timezone.now()
    try:
        upload = uploads.start_upload(
            datanet=datanet,
            name=file.name or "",
            size=file.size or 0,
            acting_user=person(request),
            at=now,
        )
        for chunk in file.chunks(uploads.CHUNK_BYTES):
            upload = uploads.append_chunk(upload=upload, offset=upload.offset, data=chunk, at=now)
    except DatanetError as error:
        messages.error(request, error.message)
        return redirect("datanets:contribute", datanet.slug)
    contribution = uploads.contribution_of(upload)
    assert contribution is not None
    return redirect(contribution)


@login_required
@require_safe
def mine(request: HttpRequest) -> HttpResponse:
    found = selectors.my_contributions(person(request))
    page = Paginator(found, 30).get_page(request.GET.get("page"))
    return render(request, "datanets/my_contributions.html", {"page": page})


@login_required
@require_safe
def contribution(request: HttpRequest, contribution_id: UUID) -> HttpResponse:
    """The page; with ?part=1 only the part that changes while a worker is at it."""
    found = _visible(request, contribution_id)
    template = "_contribution.html" if request.GET.get("part") else "contribution.html"
    return render(request, f"datanets/{template}", _context(request, found))


@login_required
@require_POST
def set_mapping(request: HttpRequest, contribution_id: UUID) -> HttpResponse:
    found = _own(request, contribution_id)
    return act(
        request,
        found.get_absolute_url(),
        services.set_mapping,
        contribution=found,
        mapping=request.POST.dict(),
    )


@login_required
@require_POST
def submit(request: HttpRequest, contribution_id: UUID) -> HttpResponse:
    found = _own(request, contribution_id)
    return act(
        request,
        found.get_absolute_url(),
        services.submit_contribution,
        contribution=found,
        licence=request.POST.get("licence", ""),
        consent=request.POST.get("consent") == "yes",
        agreed_stake=_wei(request.POST.get("stake", "")),
    )


@login_required
@require_POST
def retry(request: HttpRequest, contribution_id: UUID) -> HttpResponse:
    found = _own(request, contribution_id)
    return act(request, found.get_absolute_url(), services.retry_contribution, contribution=found)


@login_required
@require_POST
def discard(request: HttpRequest, contribution_id: UUID) -> HttpResponse:
    found = _own(request, contribution_id)
    return act(
        request,
        reverse("datanets:my-contributions"),
        services.discard_contribution,
        "The contribution is discarded; nothing of it was kept as a record.",
        contribution=found,
    )


@login_required
@require_POST
def withdraw(request: HttpRequest, contribution_id: UUID) -> HttpResponse:
    """Consent ends for every record of it; a stake that nobody disputes goes back."""
    found = _own(request, contribution_id)
    return act(
        request,
        found.get_absolute_url(),
        moderation.withdraw_contribution,
        "The records are withdrawn; they are in no new version.",
        contribution=found,
    )


@login_required
@require_safe
def reject_file(request: HttpRequest, contribution_id: UUID, ending: str) -> StreamingHttpResponse:
    """All refused rows with their reasons, for correcting and uploading again."""
    found = _own(request, contribution_id)
    if found.rejects_id is None:
        raise Http404
    stem = found.name.rsplit(".", 1)[0]
    lines = _lines(found.rejects_id)
    name = f"{stem}-refused.{ending}"
    if ending == "csv":
        body = rejects.as_csv(json.loads(line) for line in lines)
        return download(request, body, name, "text/csv; charset=utf-8")
    return download(request, lines, name, "application/jsonl")


def _wei(text: str) -> int:
    """The stake that the page showed; a form without one agreed to none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 79 else 0


def _lines(sha256: str) -> Iterator[bytes]:
    with open_blob(sha256) as stream:
        yield from stream


def _visible(request: HttpRequest, contribution_id: UUID) -> Contribution:
    visible = Contribution.objects.visible_to(request.user).select_related("datanet", "submitter")
    return get_object_or_404(visible, pk=contribution_id)


def _own(request: HttpRequest, contribution_id: UUID) -> Contribution:
    own = Contribution.objects.filter(submitter=request.user.pk).select_related("datanet")
    return get_object_or_404(own, pk=contribution_id)


def _context(request: HttpRequest, found: Contribution) -> dict[str, Any]:
    is_owner = access.may_own(request.user, found.datanet)
    is_mine = found.submitter_id == request.user.pk
    standing = stakes.standing(found)
    shape = request.GET.get("shape") or found.mapping.get("shape") or (
        found.preview.get("mapping", {}).get("shape", Shape.QUESTION_ANSWER)
    )  # fmt: skip
    shape = shape if shape in set(Shape) else Shape.QUESTION_ANSWER
    fields = mapping_fields(found, Shape(shape), may_name_contributors=is_owner)
    allowed = allowed_for(found.datanet.licence)
    return {
        "contribution": found,
        "is_mine": is_mine,
        "offer": stakes.offer(found.datanet, found.submitter) if is_mine else None,
        "standing": standing,
        "may_propose": stakes.may_propose(request.user, standing),
        "may_withdraw": is_mine and found.records.exclude(state__in=WITHHELD).exists(),
        "shape": shape,
        "shapes": [(item.value, label) for item, label in SHAPE_LABELS.items()],
        "fields": fields,
        "as_read": rows_as_read(found, Shape(shape), fields) if found.can_be_mapped else [],
        "errors": found.row_errors.all()[:100],
        "licences": [LICENCES[spdx] for spdx in allowed if spdx in LICENCES],
        "counts": _record_counts(found),
        "near_count": clusters.near_count(found),
        "verdicts": _verdicts(found),
        "limits": {"file": settings.UPLOAD_FILE_BYTES},
    }


def _record_counts(found: Contribution) -> list[tuple[str, int]]:
    counted = found.records.order_by().values_list("state").annotate(Count("pk"))
    return sorted(counted)


def _verdicts(found: Contribution) -> Any:
    """Rejected records with the last verdict's reason and note."""
    rejected = found.records.filter(state="REJECTED").prefetch_related("reviews").order_by("row")
    return rejected[:100]
