"""Versions: list, one version with its root and files, and the wish for a new one."""

import json
from collections.abc import Iterator

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_POST, require_safe

from accounts.blobs import open_blob
from attribution.translog import canonical
from datanets import selectors
from datanets.forms import VersionForm
from datanets.models import Datanet, Version
from datanets.services import versions as services
from datanets.views.common import act, tab_context, with_datanet
from datanets.views.downloads import download

DIFF_ROWS = 50


@with_datanet()
@require_safe
def index(request: HttpRequest, datanet: Datanet) -> HttpResponse:
    """The list; with ?part=1 only what changes while a version is being built."""
    context = {
        **tab_context(request, datanet, "versions"),
        "versions": datanet.versions.select_related("published_by"),
        "build": datanet.version_builds.first(),
        "counts": selectors.record_counts(datanet),
        "inherited_count": selectors.inherited_records(datanet).count(),
        "form": VersionForm(),
    }
    template = "_versions.html" if request.GET.get("part") else "versions.html"
    return render(request, f"datanets/{template}", context)


@with_datanet("own")
@require_POST
def publish(request: HttpRequest, datanet: Datanet) -> HttpResponse:
    return act(
        request,
        f"{datanet.get_absolute_url()}versions/",
        services.request_version,
        datanet=datanet,
        note=request.POST.get("note", "")[:500],
    )


@with_datanet()
@require_safe
def version(request: HttpRequest, datanet: Datanet, number: int) -> HttpResponse:
    found = _version(datanet, number)
    diff = selectors.version_diff(found)
    contributors = Paginator(selectors.version_contributors(found), 50)
    context = {
        **tab_context(request, datanet, "versions"),
        "version": found,
        "added": diff.added.select_related("contributor")[:DIFF_ROWS],
        "added_count": diff.added.count(),
        "removed": diff.removed.select_related("contributor")[:DIFF_ROWS],
        "removed_count": diff.removed.count(),
        "contributors": contributors.get_page(request.GET.get("page")),
        "withheld_count": len(selectors.withheld_in(found)),
    }
    return render(request, "datanets/version.html", context)


@with_datanet()
@require_safe
def manifest(request: HttpRequest, datanet: Datanet, number: int) -> StreamingHttpResponse:
    found = _version(datanet, number)
    body = _chunks(found.manifest_id)
    return download(request, body, f"{datanet.slug}-v{number}-manifest.json", "application/json")


@with_datanet()
@require_safe
def records_file(request: HttpRequest, datanet: Datanet, number: int) -> StreamingHttpResponse:
    """The records as they were frozen; a text that was withdrawn since is left out of its line."""
    found = _version(datanet, number)
    if datanet.state == "TAKEN_DOWN":
        raise Http404
    withheld = selectors.withheld_in(found)
    chunks = _chunks(found.records_file_id)
    body = _without(withheld, found.records_file_id) if withheld else chunks
    return download(request, body, f"{datanet.slug}-v{number}-records.jsonl", "application/jsonl")


def _version(datanet: Datanet, number: int) -> Version:
    return get_object_or_404(
        Version.objects.select_related("datanet", "previous", "published_by"),
        datanet=datanet,
        number=number,
    )


def _chunks(sha256: str) -> Iterator[bytes]:
    with open_blob(sha256) as stream:
        while chunk := stream.read(1 << 16):
            yield chunk


def _without(withheld: set[str], sha256: str) -> Iterator[bytes]:
    """Lines with the leaf's fields, so that the root can still be computed, but no payload."""
    with open_blob(sha256) as stream:
        for line in stream:
            values = json.loads(line)
            if values["record"] in withheld:
                values["payload"] = None
                line = canonical.dumps(values) + b"\n"
            yield line
