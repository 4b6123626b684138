"""List, create, edit, card, people, publication."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from datanets import selectors, stakes
from datanets.errors import DatanetError
from datanets.forms import DatanetForm, MemberForm, ReasonForm, ReportForm
from datanets.licences import LICENCES
from datanets.lineage import ancestry
from datanets.models import Datanet, Membership
from datanets.services import datanets as services
from datanets.services import moderation
from datanets.views.common import act, person, refused, tab_context, with_datanet
from governance.selectors import current_parameters

PAGE = 24


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    mine = request.GET.get("show") == "mine" and request.user.is_authenticated
    found = selectors.datanet_list(
        request.user,
        words=request.GET.get("q", ""),
        tag=request.GET.get("tag", ""),
        licence=request.GET.get("licence", ""),
        mine=mine,
    )
    page = Paginator(found, PAGE).get_page(request.GET.get("page"))
    context = {"page": page, "licences": LICENCES.values(), "mine": mine}
    return render(request, "datanets/index.html", context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def create(request: HttpRequest) -> HttpResponse:
    form = DatanetForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        datanet = services.create_datanet(
            acting_user=person(request), at=timezone.now(), **form.cleaned_data
        )
        return redirect("datanets:contribute", datanet.slug)
    status = 422 if form.errors else 200
    context = {"form": form, "licences": LICENCES.values()}
    return render(request, "datanets/create.html", context, status=status)


@with_datanet("own")
@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest, datanet: Datanet) -> HttpResponse:
    initial = {name: getattr(datanet, name) for name in DatanetForm.base_fields}
    form = DatanetForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        return act(
            request, datanet.get_absolute_url(), services.edit_datanet,
            "The card is saved.", datanet=datanet, changes=form.cleaned_data,
        )  # fmt: skip
    context = {**tab_context(request, datanet, "card"), "form": form}
    return render(request, "datanets/edit.html", context, status=422 if form.errors else 200)


@with_datanet()
@require_safe
def card(request: HttpRequest, datanet: Datanet) -> HttpResponse:
    context = {
        **tab_context(request, datanet, "card"),
        "counts": selectors.record_counts(datanet),
        "latest": datanet.versions.order_by("-number").first(),
        "contributor_count": selectors.contributor_list(datanet).count(),
        "missing": services.missing_for_publication(datanet) if datanet.state == "DRAFT" else [],
        "report_form": ReportForm(),
        "statement_form": ReasonForm(),
        **_relatives(request, datanet),
    }
    return render(request, "datanets/card.html", context)


def _relatives(request: HttpRequest, datanet: Datanet) -> dict[str, Any]:
    """What it was derived from with what passes on, and what was derived from it."""
    found = ancestry(datanet, current_parameters()) if datanet.derived_from_id else []
    visible = Datanet.objects.visible_to(request.user)
    above = visible.filter(pk__in=[one.version.datanet_id for one in found])
    return {
        "ancestry": found,
        "visible_ancestors": set(above.values_list("pk", flat=True)),
        "inherited_count": selectors.inherited_records(datanet).count(),
        "derived": visible.filter(derived_from__datanet=datanet).select_related("derived_from"),
    }


@with_datanet()
@require_http_methods(["GET", "HEAD", "POST"])
def people(request: HttpRequest, datanet: Datanet) -> HttpResponse:
    context = tab_context(request, datanet, "people")
    form = MemberForm(request.POST or None) if context["is_owner"] else None
    if request.method == "POST":
        return _add_member(request, datanet, form, context)
    return _people_page(request, datanet, form, context)


@with_datanet("signed in")
@require_POST
def remove_member(request: HttpRequest, datanet: Datanet, membership_id: str) -> HttpResponse:
    membership = get_object_or_404(Membership, pk=membership_id, datanet=datanet)
    then = f"{datanet.get_absolute_url()}people/"
    return act(
        request, then, services.remove_member, "The role is taken away.", membership=membership
    )


@with_datanet("own")
@require_POST
def request_publication(request: HttpRequest, datanet: Datanet) -> HttpResponse:
    return act(
        request,
        datanet.get_absolute_url(),
        services.request_publication,
        "Staff will look at it and publish it or send it back with a reason.",
        datanet=datanet,
    )


@with_datanet("signed in")
@require_POST
def report(request: HttpRequest, datanet: Datanet) -> HttpResponse:
    form = ReportForm(request.POST)
    form.is_valid()
    return act(
        request,
        datanet.get_absolute_url(),
        moderation.report,
        "Staff will look at your report. You will be told what they decide.",
        datanet=datanet,
        reason=form.cleaned_data.get("reason", ""),
        text=form.cleaned_data.get("text", ""),
    )


def _add_member(
    request: HttpRequest, datanet: Datanet, form: MemberForm | None, context: dict[str, Any]
) -> HttpResponse:
    if form is None:
        return refused(request)
    if form.is_valid():
        try:
            if form.cleaned_data["person"] is not None:
                services.add_member(
                    datanet=datanet,
                    user=form.cleaned_data["person"],
                    role=form.cleaned_data["role"],
                    acting_user=person(request),
                    at=timezone.now(),
                )
            messages.success(request, _role_given(form))
            return redirect("datanets:people", datanet.slug)
        except DatanetError as error:
            form.add_error(None, error.message)
    return _people_page(request, datanet, form, context, status=422)


def _role_given(form: MemberForm) -> str:
    """Neither whether an e-mail address has an account, nor whose it is."""
    if form.is_by_email:
        return "If somebody has this address, they have the role now and were told."
    return f"{form.cleaned_data['person']} has the role now."


def _people_page(
    request: HttpRequest,
    datanet: Datanet,
    form: MemberForm | None,
    context: dict[str, Any],
    status: int = 200,
) -> HttpResponse:
    page = Paginator(selectors.contributor_list(datanet), 50).get_page(request.GET.get("page"))
    members = datanet.memberships.exclude(role="CONTRIBUTOR").select_related("user")
    total = sum(getattr(user, "record_count", 0) for user in page)
    proposers = {pk.hex: counted for pk, counted in stakes.proposers(datanet).items()}
    context |= {
        "page": page,
        "members": members,
        "proposers": proposers,
        "form": form,
        "page_total": total,
    }
    return render(request, "datanets/people.html", context, status=status)
