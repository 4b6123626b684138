"""The spendable balance: what is there, what is held, and how more comes in."""

from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts.models import User
from accounts.people.access import signed_in_user
from ledger import reading, selectors, spending
from ledger.errors import LedgerError
from ledger.forms import AmountForm, BudgetForm, TopUpForm
from ledger.models import Account, Hold
from ledger.services.faucet import give
from ledger.services.opening import account_for
from ledger.spending import BudgetView, TopUpView
from ledger.views import withdrawals
from ledger.words import open_text

PAGE = 30


@require_safe
@login_required
def wallet(request: HttpRequest) -> HttpResponse:
    user = signed_in_user(request)
    now = timezone.now()
    budget, top_up = spending.budget_of(user, now), spending.top_up_of(user, now)
    page = Paginator(selectors.statement(user), PAGE).get_page(request.GET.get("page"))
    return render(
        request,
        "ledger/wallet.html",
        {
            **_figures(user),
            "page": page,
            "rows": reading.with_names(page.object_list, user=user),
            "holds": spending.holds(user, Hold.State.PENDING)[:PAGE],
            "refunds": selectors.refunds(user)[:5],
            "ended": spending.holds(user).exclude(state=Hold.State.PENDING)[:10],
            "budget": budget,
            "budget_form": _budget_form(budget),
            "top_up": top_up,
            "top_up_form": _top_up_form(top_up),
            "faucet": _faucet(),
            "form": AmountForm(initial={"amount": "10"}),
            "intents": [reading.intent_progress(i) for i in selectors.faucet_intents(user)[:5]],
            "deposit": reading.deposit_call(account_for(Account.Kind.USER, user.pk)),
            "chain": reading.chain_for_wallets(),
            **withdrawals.part(user),
        },
    )


@require_safe
@login_required
def figures(request: HttpRequest) -> HttpResponse:
    """Balance and held, asked for again while a deposit is on its way."""
    return render(request, "ledger/wallet_figures.html", _figures(signed_in_user(request)))


@require_POST
@login_required
def faucet(request: HttpRequest) -> HttpResponse:
    """OPEN from the local chain's faucet, or granted where there is no chain at all."""
    user = signed_in_user(request)
    form = AmountForm(request.POST)
    if not form.is_valid():
        messages.error(request, form.first_error)
        return redirect("ledger:wallet")
    try:
        give(
            user=user,
            amount=form.cleaned_data["amount"],
            key=str(form.cleaned_data["key"]),
            acting_user=user,
            at=timezone.now(),
        )
    except LedgerError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, _given(form.cleaned_data["amount"]))
    return redirect("ledger:wallet")


@require_safe
@login_required
def intent_state(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The progress of one deposit by the faucet."""
    intent = get_object_or_404(selectors.faucet_intents(signed_in_user(request)), pk=pk)
    return render(request, "ledger/intent_state.html", {"intent": reading.intent_progress(intent)})


def _figures(user: User) -> dict[str, object]:
    return {
        "balance": selectors.balance(user),
        "held": selectors.held(user),
        "account": selectors.account_of(user, Account.Kind.USER),
        "hold_account": selectors.account_of(user, Account.Kind.HOLD),
        "under_way": selectors.under_way(user),
        "withdrawing_account": selectors.account_of(user, Account.Kind.WITHDRAWING),
        "owed": selectors.owed(user),
        "receivable": selectors.account_of(user, Account.Kind.RECEIVABLE),
    }


def _budget_form(budget: BudgetView | None) -> BudgetForm:
    if budget is None:
        return BudgetForm(auto_id="budget_%s")
    row = budget.budget
    initial = {"limit": open_text(row.limit), "hard_stop": row.hard_stop}
    return BudgetForm(initial=initial, auto_id="budget_%s")


def _top_up_form(top_up: TopUpView | None) -> TopUpForm:
    if top_up is None:
        return TopUpForm(auto_id="top_up_%s")
    names = ("below", "amount", "monthly_limit")
    amounts = {name: open_text(getattr(top_up.rule, name)) for name in names}
    return TopUpForm(initial=amounts | {"is_on": top_up.rule.is_on}, auto_id="top_up_%s")


def _faucet() -> str:
    """Which faucet this instance has: "local", "grant" or none ("")."""
    if not settings.CHAIN_ENABLED:
        return "grant"
    return "local" if settings.CHAIN_IS_LOCAL else ""


def _given(amount: int) -> str:
    if settings.CHAIN_ENABLED:
        return f"{open_text(amount)} OPEN are on their way through the Gateway."
    return f"{open_text(amount)} OPEN are in your balance."
