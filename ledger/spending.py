"""Reading what people spend: fees of a month, holds, budgets and what topped them up."""

from dataclasses import dataclass
from datetime import date, datetime

from django.db.models import QuerySet, Sum

from accounts.models import User
from ledger import selectors
from ledger.errors import BudgetReached, InsufficientFunds, LedgerError, SpendingBlocked
from ledger.models import Account, Budget, Hold, Posting, TopUpRule
from ledger.months import bounds, month_of
from ledger.services.receivables import blocked_text, owed_by
from ledger.words import open_text


@dataclass(frozen=True, slots=True)
class BudgetView:
    """A budget as its owner sees it; wei."""

    budget: Budget
    spent: int
    held: int

    @property
    def left(self) -> int:
        return max(0, self.budget.limit - self.spent - self.held)

    @property
    def percent(self) -> int:
        return min(100, self.spent * 100 // self.budget.limit)


@dataclass(frozen=True, slots=True)
class TopUpView:
    rule: TopUpRule
    moved: int

    @property
    def left(self) -> int:
        return max(0, self.rule.monthly_limit - self.moved)


def would_refuse(user: User, amount: int, at: datetime) -> LedgerError | None:
    """Why a hold of `amount` wei would be refused now, or None. For quotes: nothing is locked."""
    if (owed := owed_by(user.pk)) > 0:
        return SpendingBlocked(blocked_text(owed))
    budget = budget_of(user, at)
    if budget is not None and budget.budget.hard_stop and amount > budget.left:
        return BudgetReached(
            f"This may cost up to {open_text(amount)} OPEN, and {open_text(budget.left)} OPEN are "
            "left of your budget for the month. Raise it in your wallet (/wallet/#budget)."
        )
    there = selectors.balance(user)
    if there - amount < 0 and amount > there + _would_top_up(user, at):
        return InsufficientFunds(
            f"This may cost up to {open_text(amount)} OPEN, which is more than your balance of "
            f"{open_text(there)}. Deposit OPEN in your wallet (/wallet/)."
        )
    return None


def _would_top_up(user: User, at: datetime) -> int:
    """What the user's rule would add before a hold that the balance does not carry, in wei."""
    found = top_up_of(user, at)
    if found is None or not found.rule.is_on:
        return 0
    return min(found.rule.amount, found.left, selectors.earned_and_here(user))


def fees(user: User) -> QuerySet[Hold]:
    """Holds of which something was taken, and not given back by a reversal."""
    return Hold.objects.filter(
        payer=user, state=Hold.State.CAPTURED, closed_by__reversed_by__isnull=True
    )


def spent_in(user: User, month: date) -> int:
    """Fees that were captured in the month, in wei."""
    start, end = bounds(month)
    found = fees(user).filter(closed_at__gte=start, closed_at__lt=end)
    return found.aggregate(total=Sum("captured"))["total"] or 0


def budget_of(user: User, at: datetime) -> BudgetView | None:
    budget = Budget.objects.filter(user=user).first()
    if budget is None:
        return None
    return BudgetView(budget, spent_in(user, month_of(at)), selectors.held(user))


def top_up_of(user: User, at: datetime) -> TopUpView | None:
    rule = TopUpRule.objects.filter(user=user).first()
    return None if rule is None else TopUpView(rule, topped_up_in_month_of(rule, at))


def topped_up_in_month_of(rule: TopUpRule, at: datetime) -> int:
    """What the rule has moved in the month of `at`, in wei."""
    start, end = bounds(month_of(at))
    moved = Posting.objects.filter(
        entry__cause_kind="top_up",
        entry__cause_id=rule.pk,
        entry__effective_at__gte=start,
        entry__effective_at__lt=end,
        account__kind=Account.Kind.USER,
    )
    return moved.aggregate(total=Sum("amount"))["total"] or 0


def holds(user: User, state: str = "") -> QuerySet[Hold]:
    """The user's holds, the newest first."""
    found = selectors.holds(user)
    return found.filter(state=state) if state in Hold.State.values else found
