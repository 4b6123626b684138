"""Making one's own earnings spendable by a rule, when the spendable balance runs low.

Lock order: budget, rule, accounts. A move is numbered under the rule's lock, so that a hold and the
sweep that come at once move it once.
"""

import logging
from datetime import datetime

from django.db import transaction
from django.db.models import F, OuterRef, Subquery
from django.db.models.functions import Coalesce

from accounts import audit
from accounts.fields import WeiField
from accounts.models import User
from accounts.notifications import notify
from ledger import selectors
from ledger.errors import InsufficientFunds, LedgerError
from ledger.models import Account, Entry, TopUpRule
from ledger.services.opening import account_for
from ledger.services.posting import Cause, Leg, check_amount, post_entry
from ledger.services.receivables import owed_by
from ledger.spending import topped_up_in_month_of
from ledger.words import open_text

logger = logging.getLogger(__name__)
PAGE = "/wallet/#top-up"
CAUSE = "top_up"


@transaction.atomic
def set_top_up(
    *,
    user: User,
    is_on: bool,
    below: int,
    amount: int,
    monthly_limit: int,
    acting_user: User,
    at: datetime,
) -> TopUpRule:
    """Set the rule and turn it on or off; amounts in wei. Raises InvalidAmount."""
    for value in (below, amount, monthly_limit):
        check_amount(value)
    rule, _ = TopUpRule.objects.update_or_create(
        user=user,
        defaults={
            "is_on": is_on,
            "below": below,
            "amount": amount,
            "monthly_limit": monthly_limit,
        },
    )
    audit.record(
        actor=acting_user,
        verb="ledger.top_up_set",
        target=rule,
        at=at,
        data={
            "is_on": is_on,
            "below": str(below),
            "amount": str(amount),
            "monthly_limit": str(monthly_limit),
        },
    )
    return rule


def top_up(*, user: User, at: datetime, needed: int = 0) -> Entry | None:
    """Move earnings by the user's rule where spending `needed` wei leaves less than its bound.

    None where there is no rule that is on, enough is there, nothing is earned, or the month's
    limit is used up. Never more than was earned; never raises for want of money.
    """
    with transaction.atomic():
        rule = (
            TopUpRule.objects.select_for_update(of=("self",))
            .filter(user_id=user.pk, is_on=True)
            .first()
        )
        if rule is None or selectors.balance(user) - needed >= rule.below:
            return None
        if owed_by(user.pk) > 0:
            # It would go to what is owed, which is no spending of the owner's choice.
            return None
        amount = _amount(rule, user, at)
        return _move(rule, user, amount, at) if amount > 0 else None


def run_top_ups(*, at: datetime) -> int:
    """Carry out every rule whose owner is below its bound and has earned; returns how many."""
    due = TopUpRule.objects.filter(is_on=True).annotate(
        spendable=_balance_of(Account.Kind.USER), earned=_balance_of(Account.Kind.EARNINGS)
    )
    due = due.filter(spendable__lt=F("below"), earned__gt=0)
    count = 0
    for rule in due.select_related("user"):
        try:
            count += top_up(user=rule.user, at=at) is not None
        except LedgerError:
            logger.exception("top-up rule %s was not carried out", rule.pk)
    return count


def _amount(rule: TopUpRule, user: User, at: datetime) -> int:
    earned = selectors.earned_and_here(user)
    return min(rule.amount, earned, rule.monthly_limit - topped_up_in_month_of(rule, at))


def _move(rule: TopUpRule, user: User, amount: int, at: datetime) -> Entry | None:
    rule.times += 1
    # The hold that this is for locks two of these next; taken together, in the order of their ids,
    # nobody waits in a circle.
    mine = Account.objects.select_for_update(no_key=True).filter(
        owner_id=user.pk, kind__in=[Account.Kind.USER, Account.Kind.EARNINGS, Account.Kind.HOLD]
    )
    list(mine.order_by("pk").values_list("pk"))
    try:
        with transaction.atomic():
            entry = post_entry(
                kind=Entry.Kind.TRANSFER,
                key=f"top-up:{rule.pk}:{rule.times}",
                at=at,
                legs=[
                    Leg(account_for(Account.Kind.EARNINGS, user.pk), -amount),
                    Leg(account_for(Account.Kind.USER, user.pk), amount),
                ],
                cause=Cause(CAUSE, rule.pk),
            )
    except InsufficientFunds:
        # A distribution took the earnings at this moment; the next sweep looks again.
        return None
    rule.save(update_fields=["times"])
    audit.record(
        actor=None,
        verb="ledger.topped_up",
        target=entry,
        at=at,
        data={"amount": str(amount), "rule": str(rule.pk)},
    )
    notify(
        user=user,
        kind="ledger.topped_up",
        at=at,
        url=PAGE,
        title=f"{open_text(amount)} OPEN of your earnings were made spendable",
        body=f"Your balance fell below {open_text(rule.below)} OPEN, as your rule says.",
    )
    return entry


def _balance_of(kind: Account.Kind) -> Coalesce:
    found = Account.objects.filter(kind=kind, owner_id=OuterRef("user_id")).values("balance")
    return Coalesce(Subquery(found, output_field=WeiField()), 0, output_field=WeiField())
