"""The receipt log for everyone: its page, and its files exactly as C2SP tlog-tiles names them."""

from __future__ import annotations

from django.core.paginator import Paginator
from django.db.models import Max
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.cache import patch_cache_control
from django.views.decorators.http import require_safe

from attribution.models.log import Checkpoint, LogLeaf
from attribution.services import log
from attribution.translog.tiles import TileError, parse_path
from ledger import truth
from ledger.models import Intent

CHECKPOINTS_PER_PAGE = 25
YEAR = 365 * 24 * 3600


@require_safe
def log_page(request: HttpRequest) -> HttpResponse:
    """Heads and how far they are anchored."""
    heads = Checkpoint.objects.order_by("-size")
    anchored = heads.filter(state=Checkpoint.State.ANCHORED).aggregate(size=Max("size"))["size"]
    context = {
        "newest": heads.first(),
        "anchored_size": anchored or 0,
        "waiting": LogLeaf.objects.filter(index__isnull=True).count(),
        "page": Paginator(heads, CHECKPOINTS_PER_PAGE).get_page(request.GET.get("page")),
    }
    return render(request, "attribution/log.html", context)


@require_safe
def checkpoint(request: HttpRequest) -> HttpResponse:
    """The newest signed head; it changes, so it is kept for seconds only."""
    newest = _newest()
    answer = HttpResponse(newest.note, content_type="text/plain; charset=utf-8")
    patch_cache_control(answer, public=True, max_age=2)
    return answer


@require_safe
def checkpoint_of(request: HttpRequest, size: int) -> HttpResponse:
    """The signed head of one size, for ever the same."""
    head = Checkpoint.objects.filter(size=size).first()
    if head is None:
        raise Http404("No checkpoint of this size was signed.")
    answer = HttpResponse(head.note, content_type="text/plain; charset=utf-8")
    patch_cache_control(answer, public=True, max_age=YEAR, immutable=True)
    return answer


@require_safe
def checkpoint_page(request: HttpRequest, size: int) -> HttpResponse:
    """A signed head for people: what it covers, and how far its anchor is on the chain."""
    head = Checkpoint.objects.filter(size=size).first()
    if head is None:
        raise Http404("No checkpoint of this size was signed.")
    asked = head.anchor_intent_id
    intent = Intent.objects.filter(pk=asked).first() if asked else None
    covering = Checkpoint.objects.filter(size__gt=size, state=Checkpoint.State.ANCHORED)
    context = {
        "head": head,
        "before": Checkpoint.objects.filter(size__lt=size).order_by("-size").first(),
        "intent": intent,
        "truth": truth.of_intent(intent) if intent else truth.NOT_SENT,
        "covered_by": covering.order_by("size").first(),
    }
    return render(request, "attribution/checkpoint.html", context)


@require_safe
def tile(request: HttpRequest, path: str) -> HttpResponse:
    """A tile of hashes or a bundle of entries that the newest head covers."""
    try:
        wanted = parse_path(f"tile/{path}")
    except TileError as error:
        raise Http404("This is not the path of a tile.") from error
    if not wanted.fits(_newest().size):
        raise Http404("The log has not grown to this tile yet.")
    try:
        data = log.LogStore().read(wanted.path)
    except FileNotFoundError as error:
        raise Http404("No checkpoint was signed at this width; ask for the full tile.") from error
    answer = HttpResponse(data, content_type="application/octet-stream")
    patch_cache_control(answer, public=True, max_age=YEAR, immutable=True)
    return answer


@require_safe
def consistency(request: HttpRequest, first: int, second: int) -> JsonResponse:
    """That the head of `second` leaves begins with that of `first`; both were signed."""
    sizes = Checkpoint.objects.filter(size__in={first, second}).count()
    if not 0 < first <= second or sizes != len({first, second}):
        raise Http404("Name two sizes that were signed, the smaller first.")
    return JsonResponse({"first": first, "second": second, "proof": log.consistency(first, second)})


def _newest() -> Checkpoint:
    newest = Checkpoint.objects.order_by("-size").first()
    if newest is None:
        raise Http404("The log is empty: no receipt was written yet.")
    return newest
