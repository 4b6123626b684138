"""What an index publishes: its manifest, and its files for whoever recomputes a share."""

from __future__ import annotations

from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.blobs import open_blob
from attribution import passage_lines, selectors
from attribution.influence.index import MANIFEST, IndexManifest
from attribution.models import Index, PastIndex
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
            "groups": selectors.groups_of(found, request.user),
            "span_indexes": passage_lines.span_indexes_of(found.model, request.user),
            "may_download": selectors.may_read_index(found, request.user),
        },
    )


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
