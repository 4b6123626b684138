"""A person's monthly budget: told at its marks, and, where they wish it, a stop.

Lock order: the budget's row goes before any account, at the hold as at the capture.
"""

import logging
from collections.abc import Mapping
from datetime import date, datetime
from uuid import UUID

from django.db import transaction

from accounts import audit
from accounts.models import User
from accounts.notifications import notify
from ledger import selectors
from ledger.errors import BudgetReached
from ledger.models import Budget, BudgetNotice
from ledger.months import month_of, next_month
from ledger.services.posting import check_amount
from ledger.spending import spent_in
from ledger.words import open_text

logger = logging.getLogger(__name__)
PAGE = "/wallet/#budget"


@transaction.atomic
def set_budget(
    *, user: User, limit: int, hard_stop: bool, acting_user: User, at: datetime
) -> Budget:
    """Set what `user` means to spend in a month, in wei. Raises InvalidAmount."""
    check_amount(limit)
    month = month_of(at)
    budget, _ = Budget.objects.update_or_create(
        user=user,
        defaults={
            "limit": limit,
            "hard_stop": hard_stop,
            "month": month,
            "spent": spent_in(user, month),
        },
    )
    audit.record(
        actor=acting_user,
        verb="ledger.budget_set",
        target=budget,
        at=at,
        data={"limit": str(limit), "hard_stop": hard_stop},
    )
    _tell(budget, at)
    return budget


@transaction.atomic
def drop_budget(*, user: User, acting_user: User, at: datetime) -> None:
    """Spend without a budget again; without one this does nothing."""
    budget = Budget.objects.select_for_update().filter(user=user).first()
    if budget is None:
        return
    audit.record(actor=acting_user, verb="ledger.budget_dropped", target=budget, at=at)
    budget.delete()


def check_budget(*, payer: User, amount: int, at: datetime) -> None:
    """Called in the transaction of a hold, before any account is locked.

    Raises BudgetReached where the payer's budget stops and `amount` could go over it: what was
    spent this month, what is held now and `amount` count. The row lock makes holds of one payer
    wait for each other, so that two of them cannot share what is left.
    """
    budget = (
        Budget.objects.select_for_update(of=("self",))
        .filter(user_id=payer.pk, hard_stop=True)
        .first()
    )
    if budget is None:
        return
    month = month_of(at)
    spent = budget.spent if budget.month == month else 0
    left = max(0, budget.limit - spent - selectors.held(payer))
    if amount > left:
        raise BudgetReached(
            f"This may cost up to {open_text(amount)} OPEN, and {open_text(left)} OPEN are left of "
            f"your budget for {month:%B}. Raise the budget or take its stop off in your wallet "
            f"({PAGE}), or wait until {next_month(month):%d %B} (UTC)."
        )


def note_spending(*, spent: Mapping[UUID, int], at: datetime) -> None:
    """These wei are being captured, by the payer's id.

    Call it in that transaction, before accounts are locked.
    """
    if not spent:
        return
    month = month_of(at)
    for budget in Budget.objects.select_for_update().filter(user_id__in=spent).order_by("pk"):
        before = budget.spent if budget.month == month else 0
        budget.month, budget.spent = month, before + spent[budget.user_id]
        budget.save(update_fields=["month", "spent"])
        _tell(budget, at)


def refresh_budgets(*, at: datetime) -> int:
    """Compare every budget's count with the holds and tell what was missed; returns how many.

    One sum over a person's fees of the month for each budget, by an index.
    """
    month, count = month_of(at), 0
    for pk in Budget.objects.values_list("pk", flat=True).iterator():
        count += _refresh(pk, month, at)
    return count


@transaction.atomic
def _refresh(pk: UUID, month: date, at: datetime) -> bool:
    budget = Budget.objects.select_for_update(of=("self",)).filter(pk=pk).first()
    if budget is None:
        return False
    spent = spent_in(budget.user, month)
    changed = (budget.month, budget.spent) != (month, spent)
    if changed:
        budget.month, budget.spent = month, spent
        budget.save(update_fields=["month", "spent"])
    _tell(budget, at)
    return changed


def _tell(budget: Budget, at: datetime) -> None:
    """Write a notice for the highest mark that is new this month; lower ones go with it."""
    passed = {mark for mark in Budget.MARKS if budget.spent * 100 >= budget.limit * mark}
    if not passed:
        return
    known = set(
        BudgetNotice.objects.filter(user_id=budget.user_id, month=budget.month).values_list(
            "percent", flat=True
        )
    )
    if not (new := passed - known):
        return
    BudgetNotice.objects.bulk_create(
        [BudgetNotice(user_id=budget.user_id, month=budget.month, percent=mark) for mark in new]
    )
    if max(new) < max(known, default=0):
        return
    stopped = max(new) == 100 and budget.hard_stop
    notify(
        user=budget.user,
        kind="ledger.budget_mark",
        at=at,
        url=PAGE,
        title=f"{max(new)} % of your budget for {budget.month:%B} is spent",
        body=f"{open_text(budget.spent)} of {open_text(budget.limit)} OPEN."
        + (" What could go over it is refused until you raise it." if stopped else ""),
    )
