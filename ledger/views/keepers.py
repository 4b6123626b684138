"""What staff do with money that is nobody's own: refunds, the platform's part, lost deposits."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db.models import Q, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts.models import User
from accounts.people.access import signed_in_user
from ledger.errors import LedgerError, NothingToRefund
from ledger.forms import AssignForm, LedgerForm, PayOutForm, RefundForm
from ledger.models import Account, Deposit, Entry, Refund
from ledger.selectors import account_of_owner
from ledger.services import keepers
from ledger.services.refunds import refund_fee, refundable, what_it_takes
from ledger.words import open_text

SHOWN = 20
NO_HOLD = "No fee was held for this; look at its id."


@require_safe
@login_required
def money(request: HttpRequest) -> HttpResponse:
    """Fees to give back, the platform's balance, deposits that name nobody; `?completion=` shows
    what a refund of it would do."""
    _staff(request)
    platform = account_of_owner(Account.Kind.PLATFORM, None)
    context = {
        "refund": _preview(request.GET.get("completion", "")),
        "refund_form": RefundForm(initial={"completion": request.GET.get("completion", "")}),
        "refunds": Refund.objects.select_related("hold__payer", "actor")[:SHOWN],
        "platform": platform,
        "platform_total": platform.shards.total() if platform else 0,
        "pay_form": PayOutForm(),
        "deposits": [(one, AssignForm(auto_id=f"id_{one.pk}_%s")) for one in _unassigned()[:SHOWN]],
        "paid": _paid()[:SHOWN],
    }
    return render(request, "ledger/keepers.html", context)


@require_POST
@login_required
def refund(request: HttpRequest) -> HttpResponse:
    user, form = _staff(request), RefundForm(request.POST)

    def act(asked: dict[str, Any]) -> str:
        hold = refundable(asked["completion"])
        if hold is None:
            raise NothingToRefund(NO_HOLD)
        made = refund_fee(hold=hold, reason=asked["reason"], acting_user=user, at=timezone.now())
        return f"{open_text(made.amount)} OPEN are back with {made.hold.payer}."

    return _done(request, form, act)


@require_POST
@login_required
def pay_platform(request: HttpRequest) -> HttpResponse:
    user, form = _staff(request), PayOutForm(request.POST)

    def act(asked: dict[str, Any]) -> str:
        values = {**asked, "key": str(asked["key"])}
        keepers.pay_from_platform(**values, acting_user=user, at=timezone.now())
        return f"{open_text(asked['amount'])} OPEN were paid to {asked['to']}."

    return _done(request, form, act)


@require_POST
@login_required
def assign(request: HttpRequest, pk: UUID) -> HttpResponse:
    user, form = _staff(request), AssignForm(request.POST)
    deposit = get_object_or_404(Deposit, pk=pk)

    def act(asked: dict[str, Any]) -> str:
        keepers.assign_deposit(deposit=deposit, **asked, acting_user=user, at=timezone.now())
        return f"{open_text(deposit.amount)} OPEN are with {asked['to']} now."

    return _done(request, form, act)


def _staff(request: HttpRequest) -> User:
    user = signed_in_user(request)
    if not user.is_staff:
        raise PermissionDenied
    return user


def _done(
    request: HttpRequest, form: LedgerForm, act: Callable[[dict[str, Any]], str]
) -> HttpResponse:
    if not form.is_valid():
        messages.error(request, form.first_error)
    else:
        try:
            messages.success(request, act(form.cleaned_data))
        except LedgerError as error:
            messages.error(request, error.message)
    return redirect("ledger:keepers")


def _paid() -> Any:
    """Payments of keepers, the newest first, each with its `total` in wei."""
    total = Sum("postings__amount", filter=Q(postings__amount__gt=0))
    return Entry.objects.filter(kind=Entry.Kind.PAID_OUT).annotate(total=total).order_by("-id")


def _unassigned() -> Any:
    given = Entry.objects.filter(kind=Entry.Kind.PAID_OUT, idempotency_key__startswith="assigned:")
    taken = [UUID(key.partition(":")[2]) for key in given.values_list("idempotency_key", flat=True)]
    lost = Deposit.objects.filter(
        account__kind=Account.Kind.UNASSIGNED, state=Deposit.State.CREDITED
    )
    return lost.exclude(pk__in=taken).order_by("-id")


def _preview(completion: str) -> dict[str, Any] | None:
    """What a refund would do; with `problem` where it can do nothing."""
    if not completion:
        return None
    try:
        hold = refundable(UUID(completion))
    except ValueError:
        hold = None
    if hold is None:
        return {"problem": NO_HOLD}
    known = Refund.objects.filter(hold=hold).first()
    if known is not None:
        return {"problem": "This fee was given back already.", "known": known}
    try:
        division = what_it_takes(hold)
    except LedgerError as error:
        return {"problem": error.message}
    return {
        "hold": hold,
        "taken_back": hold.captured - division.borne,
        "borne": division.borne,
        "short": division.short,
    }
