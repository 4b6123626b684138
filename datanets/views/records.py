"""The records tab, and one page per record."""

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_POST, require_safe

from datanets import access, clusters, selectors
from datanets.forms import ReasonForm, ReportForm, VerdictForm
from datanets.models import Datanet, Record, RecordState
from datanets.services import moderation, reviews
from datanets.views.common import act, refused, tab_context, with_datanet

PAGE = 50


@with_datanet()
@require_safe
def index(request: HttpRequest, datanet: Datanet) -> HttpResponse:
    records = selectors.record_list(
        datanet,
        request.user,
        state=request.GET.get("state", ""),
        words=request.GET.get("q", "")[:200],
        contributor=request.GET.get("contributor", "")[:100],
    )
    context = {
        **tab_context(request, datanet, "records"),
        "page": Paginator(records, PAGE).get_page(request.GET.get("page")),
        "histogram": selectors.length_histogram(records),
        "states": RecordState.choices,
        "state": request.GET.get("state") or RecordState.ACCEPTED,
        "counts": selectors.record_counts(datanet),
    }
    context["tallest"] = max((bar.count for bar in context["histogram"]), default=0)
    return render(request, "datanets/records.html", context)


@require_safe
def record(request: HttpRequest, record_id: UUID) -> HttpResponse:
    found = _visible(request, record_id)
    is_reviewer = access.may_review(request.user, found.datanet)
    is_concerned = request.user.is_authenticated and (
        request.user.is_staff or found.contributor_id == request.user.pk
    )
    role, cluster_size = clusters.role_of(found, request.user)
    versions = found.version_entries.select_related("version__datanet").order_by("version__number")
    context = {
        **tab_context(request, found.datanet, "records"),
        "record": found,
        "shows_text": not found.is_withheld or is_concerned,
        "reviews": found.reviews.select_related("reviewer"),
        "shows_reviews": is_reviewer
        or is_concerned
        or found.contribution.submitter_id == request.user.pk,
        "entries": versions,
        "elsewhere": selectors.same_text_elsewhere(found)[:5],
        "near": clusters.near_to(found, request.user),
        "near_is_cut": clusters.is_cut(found),
        "role": role,
        "cluster_size": cluster_size,
        "may_withdraw": access.may_withdraw(request.user, found)
        and found.state in ("PENDING", "ACCEPTED", "REJECTED"),
        "may_remove": is_reviewer and found.state == RecordState.ACCEPTED,
        "report_form": ReportForm(),
        "statement_form": ReasonForm(),
        "verdict_form": VerdictForm(),
    }
    status = 410 if found.is_withheld else 200
    return render(request, "datanets/record.html", context, status=status)


@login_required
@require_POST
def withdraw(request: HttpRequest, record_id: UUID) -> HttpResponse:
    found = _visible(request, record_id)
    return act(
        request,
        found.get_absolute_url(),
        moderation.withdraw_record,
        "The record is withdrawn: it leaves the next version and nothing new is trained on it.",
        record=found,
    )


@login_required
@require_POST
def report(request: HttpRequest, record_id: UUID) -> HttpResponse:
    found = _visible(request, record_id)
    form = ReportForm(request.POST)
    form.is_valid()
    return act(
        request,
        found.get_absolute_url(),
        moderation.report,
        "Staff will look at your report. You will be told what they decide.",
        datanet=found.datanet,
        record=found,
        reason=form.cleaned_data.get("reason", ""),
        text=form.cleaned_data.get("text", ""),
    )


@login_required
@require_POST
def remove(request: HttpRequest, record_id: UUID) -> HttpResponse:
    """A reviewer takes an accepted record out of the next version, with a reason."""
    found = _visible(request, record_id)
    if not access.may_review(request.user, found.datanet):
        return refused(request)
    return act(
        request,
        found.get_absolute_url(),
        reviews.reject_records,
        "The record leaves the next version.",
        datanet=found.datanet,
        records=[found.pk],
        reason=request.POST.get("reason", ""),
        note=request.POST.get("note", "")[:500],
    )


def _visible(request: HttpRequest, record_id: UUID) -> Record:
    visible = Record.objects.visible_to(request.user).select_related(
        "datanet__owner", "contributor", "contribution__submitter"
    )
    return get_object_or_404(visible, pk=record_id)
