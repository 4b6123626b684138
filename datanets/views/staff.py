"""Moderation: what waits for publication, what was reported, takedowns."""

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from datanets.forms import ReasonForm
from datanets.models import Datanet, DatanetState, Record, Report, ReportState
from datanets.selectors import with_counts
from datanets.services import datanets as services
from datanets.services import moderation
from datanets.stakes import slashes_to_decide
from datanets.views.common import act, person


@login_required
@require_safe
def index(request: HttpRequest) -> HttpResponse:
    _require_staff(request)
    waiting = Datanet.objects.filter(state=DatanetState.IN_REVIEW).select_related("owner")
    reports = Report.objects.select_related("datanet", "record", "reporter", "handled_by")
    open_reports = reports.filter(state=ReportState.OPEN)
    handled = reports.exclude(state=ReportState.OPEN).order_by("-handled_at")[:20]
    context = {
        "waiting": with_counts(waiting.order_by("state_changed_at")),
        "page": Paginator(open_reports, 30).get_page(request.GET.get("page")),
        "handled": handled,
        "appeals": slashes_to_decide(person(request)),
        "form": ReasonForm(),
    }
    return render(request, "datanets/moderation.html", context)


@login_required
@require_POST
def approve(request: HttpRequest, datanet_id: UUID) -> HttpResponse:
    _require_staff(request)
    datanet = get_object_or_404(Datanet, pk=datanet_id)
    return act(
        request,
        reverse("datanets:moderation"),
        services.approve_publication,
        f"{datanet.name} is published.",
        datanet=datanet,
    )


@login_required
@require_POST
def send_back(request: HttpRequest, datanet_id: UUID) -> HttpResponse:
    _require_staff(request)
    datanet = get_object_or_404(Datanet, pk=datanet_id)
    return act(
        request,
        reverse("datanets:moderation"),
        services.send_back,
        f"{datanet.name} is sent back with your reason.",
        datanet=datanet,
        reason=_statement(request),
    )


@login_required
@require_POST
def take_down_datanet(request: HttpRequest, datanet_id: UUID) -> HttpResponse:
    _require_staff(request)
    datanet = get_object_or_404(Datanet, pk=datanet_id)
    return act(
        request,
        datanet.get_absolute_url(),
        services.take_down_datanet,
        f"{datanet.name} is taken down; its page shows your statement.",
        datanet=datanet,
        statement=_statement(request),
    )


@login_required
@require_POST
def take_down_record(request: HttpRequest, record_id: UUID) -> HttpResponse:
    _require_staff(request)
    record = get_object_or_404(
        Record.objects.select_related("datanet__owner", "contributor", "contribution__submitter"),
        pk=record_id,
    )
    return act(
        request,
        record.get_absolute_url(),
        moderation.take_down_record,
        "The record is taken down; its page shows your statement.",
        record=record,
        statement=_statement(request),
    )


@login_required
@require_POST
def resolve_report(request: HttpRequest, report_id: UUID) -> HttpResponse:
    _require_staff(request)
    report = get_object_or_404(
        Report.objects.select_related("datanet", "record", "reporter"), pk=report_id
    )
    return act(
        request,
        reverse("datanets:moderation"),
        moderation.resolve_report,
        "The reporter is told what you decided.",
        report=report,
        upheld=request.POST.get("upheld") == "yes",
        statement=_statement(request),
    )


def _statement(request: HttpRequest) -> str:
    return request.POST.get("statement", "")[:2_000]


def _require_staff(request: HttpRequest) -> None:
    if not request.user.is_staff:
        raise PermissionDenied
