"""Stakes of a Datanet, a slash with its evidence, its appeal and its decision."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from datanets import stakes
from datanets.errors import DatanetError
from datanets.forms import AppealForm, ReasonForm, SlashForm, StakeForm
from datanets.models import Contribution, Datanet, Slash
from datanets.services import slashing, staking
from datanets.views.common import act, person, refused, tab_context, with_datanet
from ledger.forms import PayOutForm
from ledger.models import Account
from ledger.selectors import account_of_owner, balance, owed
from ledger.words import open_text

PAGE = 30


@with_datanet()
@require_http_methods(["GET", "HEAD", "POST"])
def index(request: HttpRequest, datanet: Datanet) -> HttpResponse:
    """What the Datanet asks for, what its slashes brought; the owner sets the first."""
    context = tab_context(request, datanet, "stakes")
    current = open_text(datanet.stake_amount) if datanet.stake_amount else ""
    form = StakeForm(request.POST or None, initial={"amount": current})
    if request.method == "POST":
        if not context["is_owner"]:
            return refused(request)
        if form.is_valid():
            return act(
                request,
                f"{datanet.get_absolute_url()}stakes/",
                staking.set_stake_amount,
                "What is asked for is changed. Stakes that are locked keep their terms.",
                datanet=datanet,
                amount=form.cleaned_data["amount"],
            )
    treasury = account_of_owner(Account.Kind.TREASURY, datanet.pk)
    found = stakes.slashes_of(datanet, request.user)
    context |= {
        "terms": stakes.terms(datanet),
        "treasury": treasury,
        "treasury_total": treasury.shards.total() if treasury else 0,
        "page": Paginator(found, PAGE).get_page(request.GET.get("page")),
        "form": form,
        "pay_form": PayOutForm(auto_id="id_pay_%s") if context["is_owner"] and treasury else None,
    }
    status = 422 if form.errors else 200
    return render(request, "datanets/stakes.html", context, status=status)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def propose(request: HttpRequest, contribution_id: UUID) -> HttpResponse:
    """A reviewer's wish to slash the stake of a contribution."""
    visible = Contribution.objects.visible_to(request.user).select_related("datanet", "submitter")
    contribution = get_object_or_404(visible, pk=contribution_id)
    standing = stakes.standing(contribution)
    if not stakes.may_propose(request.user, standing):
        raise Http404 if standing is None else PermissionDenied
    chosen = request.GET.getlist("record")
    form = SlashForm(request.POST or None, contribution=contribution, initial={"records": chosen})
    if request.method == "POST" and form.is_valid():
        return _proposed(request, contribution, form)
    context = {
        **tab_context(request, contribution.datanet, "review"),
        "contribution": contribution,
        "standing": standing,
        "form": form,
        "records": stakes.slashable_records(contribution),
        "chosen": set(request.POST.getlist("records") or chosen),
    }
    status = 422 if form.errors else 200
    return render(request, "datanets/propose_slash.html", context, status=status)


@require_safe
def slash(request: HttpRequest, slash_id: UUID) -> HttpResponse:
    """One slash: whose, why, what shows it, until when it may be appealed."""
    found = _visible(request, slash_id)
    return render(request, "datanets/slash.html", _context(request, found))


@login_required
@require_POST
def appeal(request: HttpRequest, slash_id: UUID) -> HttpResponse:
    return _act(request, slash_id, slashing.appeal_slash, text=request.POST.get("text", ""))


@login_required
@require_POST
def withdraw(request: HttpRequest, slash_id: UUID) -> HttpResponse:
    return _act(request, slash_id, slashing.withdraw_slash)


@login_required
@require_POST
def decide(request: HttpRequest, slash_id: UUID) -> HttpResponse:
    return _act(
        request,
        slash_id,
        slashing.decide_appeal,
        upheld=request.POST.get("upheld") == "yes",
        statement=request.POST.get("statement", "")[:2_000],
    )


def _proposed(request: HttpRequest, contribution: Contribution, form: SlashForm) -> HttpResponse:
    try:
        made = slashing.propose_slash(
            contribution=contribution,
            reason=form.cleaned_data["reason"],
            evidence=form.cleaned_data["evidence"],
            records=[record.pk for record in form.cleaned_data["records"]],
            acting_user=person(request),
            at=timezone.now(),
        )
    except DatanetError as error:
        messages.error(request, error.message)
        return redirect(contribution)
    return act(
        request,
        made.get_absolute_url(),
        lambda **_: None,
        "The contributor is told and may appeal.",
    )


def _act(request: HttpRequest, slash_id: UUID, service: Any, **values: Any) -> HttpResponse:
    found = _visible(request, slash_id)
    return act(request, found.get_absolute_url(), service, slash=found, **values)


def _visible(request: HttpRequest, slash_id: UUID) -> Slash:
    found: Slash = get_object_or_404(
        Slash.objects.visible_to(request.user).with_people().select_related("entry", "bond"),
        pk=slash_id,
    )
    return found


def _context(request: HttpRequest, found: Slash) -> dict[str, Any]:
    user = request.user
    contribution = found.staked.contribution
    is_mine = user.is_authenticated and found.staker.pk == user.pk
    proposer = stakes.proposers(found.datanet).get(found.proposed_by_id, {})
    sees = Contribution.objects.visible_to(user).filter(pk=contribution.pk).exists()
    return {
        **tab_context(request, found.datanet, "stakes"),
        "slash": found,
        "contribution": contribution if sees else None,
        "records": found.records.visible_to(user).order_by("row"),
        "record_count": found.records.count(),
        "proposer": proposer,
        "may_appeal": is_mine and found.state == "PROPOSED" and timezone.now() < found.appeal_until,
        "may_take_back": found.state == "PROPOSED" and found.proposed_by_id == user.pk,
        "may_decide": found.state == "APPEALED" and slashing.may_decide(user, found),
        "spendable": balance(person(request)) if is_mine else 0,
        "owed": owed(person(request)) if is_mine else 0,
        "appeal_form": AppealForm(),
        "statement_form": ReasonForm(),
    }
