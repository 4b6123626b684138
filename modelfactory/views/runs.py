"""Runs: the list, the live page, its figures as JSON, and the buttons."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from datanets.models import Record
from modelfactory import selectors
from modelfactory.errors import RunError
from modelfactory.models import Run
from modelfactory.services import runs as services
from modelfactory.views.common import now, own_run, person, visible_run

PAGE = 30
FINDINGS = 50


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """One's own runs first, then those of published models."""
    visible = Run.objects.visible_to(request.user).select_related("base_model", "builder")
    if request.GET.get("whose") == "mine" and request.user.is_authenticated:
        visible = visible.filter(builder=request.user)
    started = visible.exclude(state=Run.State.DRAFT)
    drafts = Run.objects.owned_by(request.user).filter(state=Run.State.DRAFT)
    return render(
        request,
        "modelfactory/runs.html",
        {
            "page": Paginator(started, PAGE).get_page(request.GET.get("page")),
            "drafts": drafts[:20],
        },
    )


@require_safe
def detail(request: HttpRequest, run_id: UUID) -> HttpResponse:
    run = visible_run(request, run_id)
    versions = run.run_versions.select_related("version__datanet")
    shown = run.findings[:FINDINGS]
    context = _state(run, request) | {
        "versions": versions,
        "parents": run.parents.select_related("model__owner"),
        "findings": _readable(shown, request.user),
        "findings_have_rows": any(found["number"] for found in shown),
        "findings_count": len(run.findings),
        "left_out": sum(f["problem"] in selectors.NOT_TRAINED for f in run.findings),
        "repeated": sum(f["problem"] == selectors.REPEATED for f in run.findings),
        "recipe": _recipe_rows(run),
    }
    return render(request, "modelfactory/run.html", context)


def _readable(findings: list[dict[str, Any]], user: Any) -> list[dict[str, Any]]:
    """With `text` and `first_text`: how a repeated record and the first one begin, where `user`
    may read them."""
    wanted = {pk for found in findings for pk in (found.get("record"), found.get("first")) if pk}
    readable = Record.objects.visible_to(user).filter(pk__in=wanted)
    texts = {str(one.pk): one.excerpt for one in readable}
    return [
        found
        | {
            "text": texts.get(str(found.get("record")), ""),
            "first_text": texts.get(str(found.get("first")), ""),
        }
        for found in findings
    ]


def _recipe_rows(run: Run) -> list[tuple[str, Any]]:
    recipe = run.parsed_recipe
    return [
        (f.metadata["label"], getattr(recipe, f.name)) for f in recipe.__dataclass_fields__.values()
    ]


def _state(run: Run, request: HttpRequest) -> dict[str, Any]:
    """What changes while it runs."""
    is_mine = run.builder_id == request.user.pk or bool(getattr(request.user, "is_staff", False))
    model = getattr(run, "model", None)
    return {
        "run": run,
        "figures": selectors.latest_figures(run),
        "position": selectors.queue_position(run),
        "progress": 100 * run.step // run.steps if run.steps else 0,
        "events": run.events.exclude(kind="PROGRESS").order_by("-sequence")[:12],
        "model": model,
        "may_steer": is_mine,
        "can_restart": is_mine and run.state in services.RESTARTABLE,
        "has_workers": bool(selectors.train_workers(now())),
    }


@require_safe
@never_cache
def live(request: HttpRequest, run_id: UUID) -> JsonResponse:
    """The curve, and the state as HTML, for the page's script."""
    run = visible_run(request, run_id)
    html = render_to_string("modelfactory/parts/run_state.html", _state(run, request), request)
    return JsonResponse(
        {
            "state": run.state,
            "active": run.phase.is_active,
            "curve": selectors.curve(run),
            "html": html,
        }
    )


@require_POST
@login_required
def cancel(request: HttpRequest, run_id: UUID) -> HttpResponse:
    run = own_run(request, run_id)
    try:
        services.cancel_run(run=run, acting_user=person(request), at=now())
    except RunError as error:
        messages.error(request, error.message)
    return redirect("modelfactory:run", run.pk)


@require_POST
@login_required
def restart(request: HttpRequest, run_id: UUID) -> HttpResponse:
    run = own_run(request, run_id)
    try:
        services.restart_run(run=run, acting_user=person(request), at=now())
    except RunError as error:
        messages.error(request, error.message)
    return redirect("modelfactory:run", run.pk)
