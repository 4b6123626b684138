"""What an index publishes: its manifest, and its files for whoever recomputes a share."""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts.blobs import open_blob
from accounts.models import User
from attribution import passage_lines, selectors
from attribution.influence.index import MANIFEST, IndexManifest
from attribution.models import Index, IndexAudit, LogLeaf, PastIndex
from attribution.services import log
from attribution.services.indexes import request_rebuild, statement_in_log, subject_of
from modelfactory.models import Model


@require_safe
def index(request: HttpRequest, root: str) -> HttpResponse:
    found = _known(root)
    return render(
        request,
        "attribution/index.html",
        {
            "index": found,
            "replaced": found if isinstance(found, PastIndex) else None,
            "now": selectors.index_of(found.model_id),
            "model": Model.objects.visible_to(request.user).filter(pk=found.model_id).first(),
            "header": found.manifest["header"],
            "audit": _newest_audit(found),
            "in_log": LogLeaf.objects.filter(receipt_id=subject_of(root)).exists(),
            "groups": selectors.groups_of(found, request.user),
            "span_indexes": passage_lines.span_indexes_of(found.model, request.user),
            "may_download": selectors.may_read_index(found, request.user),
        },
    )


@require_safe
@never_cache
def of_model(request: HttpRequest, pk: UUID) -> HttpResponse:
    """How far the model's index is, as a card of the model's page and as a page of its own."""
    model = get_object_or_404(Model.objects.visible_to(request.user), pk=pk)
    found = selectors.index_of(model.pk)
    context = {
        "model": model,
        "index": found,
        "parts": selectors.parts_of(found) if found else [],
        "made": selectors.counts_of_parts(found) if found else (0, 0),
        "is_in_charge": request.user.is_staff or request.user == model.owner,
    }
    is_part = request.headers.get("HX-Request") == "true"
    name = "attribution/index_state.html" if is_part else "attribution/index_of.html"
    return render(request, name, context)


@require_POST
@login_required
def rebuild(request: HttpRequest, pk: UUID) -> HttpResponse:
    model = get_object_or_404(Model.objects.visible_to(request.user), pk=pk)
    get_object_or_404(Index, model=model)
    assert isinstance(request.user, User)
    request_rebuild(model_id=model.pk, acting_user=request.user, at=timezone.now())
    return redirect("attribution:index_of", model.pk)


@require_safe
def file(request: HttpRequest, root: str, name: str) -> HttpResponseBase:
    """A file of the index. The manifest is for everyone; sketches leak text, so the other files
    are for those who may read all the Datanets behind them."""
    found = _known(root)
    if name == MANIFEST:
        parts = (found.manifest[part] for part in ("header", "groups", "files", "root"))
        return HttpResponse(IndexManifest(*parts).to_bytes(), content_type="application/json")
    stated = found.manifest["files"].get(name)
    if stated is None or not selectors.may_read_index(found, request.user):
        raise Http404("There is no such file for you.")
    return FileResponse(
        open_blob(stated["sha256"]), as_attachment=True, filename=f"{root[:12]}-{name}"
    )


def _known(root: str) -> Index | PastIndex:
    """The index with this root, though another may have taken its place."""
    found = selectors.index_by_root(root)
    if found is None:
        raise Http404("There is no such index.")
    return found


@require_safe
@never_cache
def statement(request: HttpRequest, root: str, name: str) -> JsonResponse:
    """What the log was told of the index, `root` or the newest `audit`, with its proof."""
    found = _known(root)
    audited = _newest_audit(found)
    subject, body = subject_of(root), None
    if name == "root":
        body = statement_in_log(root)
    elif name == "audit" and audited:
        subject, body = audited.pk, audited.body
    if body is None:
        raise Http404("The log was told nothing of that.")
    bundle = log.inclusion_bundle(subject)
    if bundle is None:
        return JsonResponse({"state": "WAITING", "detail": "It waits for its place."}, status=503)
    return JsonResponse({"statement": body, **bundle})


def _newest_audit(index: Index | PastIndex) -> IndexAudit | None:
    return IndexAudit.objects.filter(body__index_root=index.root).first()
