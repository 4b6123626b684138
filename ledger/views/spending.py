"""What was set aside and what became of it, and what a person decides about their spending."""

from collections.abc import AsyncIterator

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts import spreadsheets
from accounts.people.access import signed_in_user
from accounts.spreadsheets import Amount, Cell
from ledger import spending
from ledger.forms import BudgetForm, TopUpForm
from ledger.models import Hold
from ledger.services.budgets import drop_budget, set_budget
from ledger.services.topups import set_top_up
from ledger.words import open_text

PAGE = 50


@require_safe
@login_required
def holds(request: HttpRequest) -> HttpResponse:
    """Everything that was ever set aside; `?state=` PENDING, CAPTURED or RELEASED."""
    state = request.GET.get("state", "")
    page = Paginator(spending.holds(signed_in_user(request), state), PAGE).get_page(
        request.GET.get("page")
    )
    context = {"page": page, "state": state, "states": Hold.State.choices}
    return render(request, "ledger/holds.html", context)


@require_safe
@login_required
def holds_csv(request: HttpRequest) -> StreamingHttpResponse:
    rows = spending.holds(signed_in_user(request), request.GET.get("state", ""))
    return spreadsheets.response("holds.csv", HEADER, _rows(rows))


@require_POST
@login_required
def budget(request: HttpRequest) -> HttpResponse:
    """Set the monthly budget, or take it away."""
    user, now = signed_in_user(request), timezone.now()
    if "remove" in request.POST:
        drop_budget(user=user, acting_user=user, at=now)
        messages.success(request, "You spend without a budget now.")
        return _back("budget")
    form = BudgetForm(request.POST)
    if not form.is_valid():
        messages.error(request, form.first_error)
        return _back("budget")
    made = set_budget(user=user, **form.cleaned_data, acting_user=user, at=now)
    told = "what could go over it is refused" if made.hard_stop else "you are told as it is used"
    messages.success(request, f"Your budget is {open_text(made.limit)} OPEN a month; {told}.")
    return _back("budget")


@require_POST
@login_required
def top_up(request: HttpRequest) -> HttpResponse:
    """Set the rule that makes one's own earnings spendable, and turn it on or off."""
    user = signed_in_user(request)
    form = TopUpForm(request.POST)
    if not form.is_valid():
        messages.error(request, form.first_error)
        return _back("top-up")
    rule = set_top_up(user=user, **form.cleaned_data, acting_user=user, at=timezone.now())
    messages.success(
        request,
        "Your balance is topped up from your earnings from now on."
        if rule.is_on
        else "The rule is kept and is off; nothing is moved.",
    )
    return _back("top-up")


HEADER = [
    "time", "state", "cause", "cause_id", "held_wei", "held_open", "taken_wei", "taken_open",
    "returned_wei", "returned_open", "until", "closed", "reason", "opening_entry", "closing_entry",
    "refunded_wei", "refunded_open", "refund_entry", "refund_reason",
]  # fmt: skip


async def _rows(holds: QuerySet[Hold]) -> AsyncIterator[list[Cell]]:
    async for hold in holds.aiterator(chunk_size=2_000):
        amounts: list[Cell] = []
        for wei in (hold.amount, hold.captured, hold.returned):
            amounts += [wei, Amount(open_text(wei))]
        yield [
            hold.created_at,
            hold.state,
            hold.cause_kind,
            hold.cause_id,
            *amounts,
            hold.expires_at,
            hold.closed_at,
            hold.reason,
            hold.opened_by_id,
            hold.closed_by_id,
            hold.refunded,
            Amount(open_text(hold.refunded)),
            hold.refund.entry_id if hold.refunded else None,
            hold.refund.reason if hold.refunded else None,
        ]


def _back(place: str) -> HttpResponse:
    answer = redirect("ledger:wallet")
    answer["Location"] += f"#{place}"
    return answer
