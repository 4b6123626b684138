"""Leaderboards, the lines of the public graph, and influence over time under a thing's page."""

from __future__ import annotations

from uuid import UUID

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts import pages
from accounts.models import User
from attribution import graph
from datanets.models import Datanet, Record
from modelfactory.models import Model

PER_PAGE = 25


@require_safe
def leaderboard(request: HttpRequest, kind: str = "contributors") -> HttpResponse:
    """`?period=` is day, week, month, year or all."""
    if kind not in graph.KINDS:
        raise Http404("There is no such leaderboard.")
    period = _period(request)
    found = graph.leaders(kind, request.user, at=timezone.now(), period=period)
    page = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    rows = list(page)
    largest = max((row["amount"] for row in rows), default=0) or 1
    first = page.start_index()
    single = kind.removesuffix("s")
    names = (
        {pk: str(one) for pk, one in User.objects.in_bulk([row["pk"] for row in rows]).items()}
        if kind == "contributors"
        else pages.names(single, [row["pk"] for row in rows])
    )
    lines = [
        {
            **row,
            "rank": first + place,
            "title": names[row["pk"]],
            "url": pages.url("user" if kind == "contributors" else single, row["pk"]),
            "width": 100 * row["amount"] / largest,
        }
        for place, row in enumerate(rows)
    ]
    context = {
        "kind": kind, "single": single, "kinds": graph.KINDS, "period": period,
        "periods": graph.PERIODS, "page": page, "lines": lines,
    }  # fmt: skip
    return render(request, "attribution/leaderboard.html", context)


@require_safe
def payments(request: HttpRequest) -> HttpResponse:
    """`?contributor=`, `?datanet=` and `?model=` are ids, `?period=` as on the leaderboards;
    `?payer=others` leaves out what somebody paid for what is their own, as they do."""
    chosen = {name: _id(request.GET.get(name, "")) for name in graph.CHOICES}
    period = _period(request)
    by_others = request.GET.get("payer") == "others"
    found = graph.payments(
        request.user, at=timezone.now(), period=period, by_others=by_others, **chosen
    )
    page = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "page": page, "period": period, "periods": graph.PERIODS,
        "is_chosen": any(chosen.values()), "by_others": by_others and any(chosen.values()),
    }  # fmt: skip
    return render(request, "attribution/graph.html", context)


@require_safe
def over_time(request: HttpRequest, kind: str, pk: UUID) -> HttpResponse:
    """A part of the page of a contributor, Datanet, model or record."""
    if not _may_see(request, kind, pk):
        raise Http404("There is nothing here that you may see.")
    line = graph.timeline(at=timezone.now(), **{kind: pk})
    return render(request, "attribution/over_time.html", {"line": line, "kind": kind, "pk": pk})


def _may_see(request: HttpRequest, kind: str, pk: UUID) -> bool:
    user = request.user
    rows = {
        "contributor": User.objects.all(),
        "datanet": Datanet.objects.visible_to(user),
        "model": Model.objects.visible_to(user),
        "record": Record.objects.visible_to(user),
    }
    return kind in rows and rows[kind].filter(pk=pk).exists()


def _period(request: HttpRequest) -> str:
    wanted = request.GET.get("period", "month")
    return wanted if wanted in graph.PERIODS else "month"


def _id(text: str) -> UUID | None:
    """Raises Http404 for what is no id: a choice that nobody understands must not show all."""
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError as error:
        raise Http404("That is no id.") from error
