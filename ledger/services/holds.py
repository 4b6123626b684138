"""Holds: set aside before the work, captured for the real price, released on failure."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString
from uuid import UUID

from django.db import transaction

from accounts import audit, prepared
from accounts.models import User
from ledger import fees
from ledger.errors import (
    HoldClosed,
    HoldExpired,
    IdempotencyConflict,
    InsufficientFunds,
    InvalidAmount,
    InvalidEntry,
)
from ledger.fees import Portion, Terms
from ledger.models import Account, Entry, Hold
from ledger.services.budgets import check_budget, note_spending
from ledger.services.opening import Wanted, account_for, legs_of_many, open_accounts
from ledger.services.posting import Cause, Draft, Leg, Refs, check_amount, post_entries, post_entry
from ledger.services.receivables import check_may_spend
from ledger.services.topups import top_up

__all__ = [
    "Capture",
    "HoldClosed",
    "HoldExpired",
    "IdempotencyConflict",
    "InsufficientFunds",
    "Refs",
    "add_hold",
    "capture_hold",
    "capture_many",
    "open_hold",
    "release_expired_holds",
    "release_hold",
    "terms_of",
]

logger = logging.getLogger(__name__)
SWEEP = 200


def add_hold(
    *,
    payer: User,
    amount: int,
    cause_kind: str,
    cause_id: UUID,
    terms: Terms,
    expires_at: datetime,
    acting_user: User | None,
    at: datetime,
) -> Hold:
    """Set `amount` wei of the payer's spendable balance aside for one cause.

    `terms` are fixed now: the fee will be divided by them whatever is decided meanwhile.

    Asked again for the same cause with the same values, the first hold is returned.

    The payer's rule for topping up from earnings is carried out first.

    In the caller's transaction, which is rolled back where this raises: InvalidAmount, HoldExpired
    (`expires_at` has passed), SpendingBlocked, InsufficientFunds, BudgetReached and
    IdempotencyConflict (the cause has a hold with other values, or other terms).
    """
    check_amount(amount)
    if expires_at <= at:
        raise HoldExpired("A hold must end in the future.")
    _prepare(payer, amount, cause_kind, cause_id, at)
    spendable, held = (Wanted(kind, payer.pk) for kind in (Account.Kind.USER, Account.Kind.HOLD))
    accounts = open_accounts([spendable, held])
    draft = Draft(
        kind=Entry.Kind.HOLD,
        key=f"hold:{cause_kind}:{cause_id}",
        at=at,
        legs=[Leg(accounts[spendable], -amount), Leg(accounts[held], amount)],
        cause=Cause(cause_kind, cause_id),
        parameter_version=terms.version,
        acting_user=acting_user,
    )
    posted = post_entries([draft])[0]
    entry = posted.get()
    if not posted.is_new:
        # The entry and its hold were written in one transaction.
        hold: Hold = Hold.objects.get(opened_by=entry)
        _require_same_terms(hold, terms)
        return hold
    hold = Hold(
        opened_by=entry,
        payer=payer,
        amount=amount,
        cause_kind=cause_kind,
        cause_id=cause_id,
        split_version=terms.version,
        terms=fees.to_json(terms),
        expires_at=expires_at,
    )
    hold.save(force_insert=True)
    act = audit.Act(
        actor=acting_user,
        verb="ledger.hold_opened",
        target=hold,
        data={"amount": str(amount), "cause": [cause_kind, str(cause_id)]},
    )
    audit.record_many([act], at=at)
    return hold


# The same in a transaction of its own.
open_hold = transaction.atomic(add_hold)


# What a hold must look at before it: most people owe nothing and have made no rules.
CARE: Final[LiteralString] = """
SELECT
    EXISTS (SELECT FROM ledger_hold WHERE cause_kind = $1::varchar AND cause_id = $2::uuid),
    EXISTS (SELECT FROM ledger_account WHERE kind = 'RECEIVABLE' AND owner_id = $3::uuid),
    EXISTS (SELECT FROM ledger_budget WHERE user_id = $3::uuid AND hard_stop),
    EXISTS (SELECT FROM ledger_topuprule WHERE user_id = $3::uuid AND is_on)
"""


def _prepare(payer: User, amount: int, cause_kind: str, cause_id: UUID, at: datetime) -> None:
    """Check the payer's debts and budget and carry out their rule; nothing for a known cause."""
    asked = prepared.fetch(CARE, [cause_kind, cause_id, payer.pk])
    is_known, owes, has_budget, has_rule = asked[0]
    if is_known:
        return
    if owes:
        check_may_spend(payer.pk)
    if has_budget:
        check_budget(payer=payer, amount=amount, at=at)
    if has_rule:
        top_up(user=payer, needed=amount, at=at)


@dataclass(frozen=True, slots=True)
class Capture:
    """What is taken of a hold, and by what it is divided; see `capture_hold`."""

    hold: Hold
    amount: int
    terms: Terms
    refs: Refs


def capture_hold(
    *,
    hold: Hold,
    amount: int,
    terms: Terms,
    refs: Refs,
    acting_user: User | None,
    at: datetime,
) -> Entry:
    """Take `amount` of the hold as a fee, divide it by `terms`, give the rest back to the payer.

    `terms` are those of the hold (`terms_of`). The model owner's part goes to their earnings and
    those of the ancestors' owners, the contributors' part waits in the suspense account of
    `refs.completion` for the receipt (`ledger.fees.divide_fee`). One entry holds all of it.

    Captured again with the same values, the first entry is returned. Raises InvalidAmount (zero,
    or more than was held: release a hold that costs nothing), HoldExpired, HoldClosed, SelfRoyalty,
    IdempotencyConflict (other terms than those fixed at the hold, or captured with other values).
    """
    one = Capture(hold, amount, terms, refs)
    return capture_many(captures=[one], acting_user=acting_user, at=at)[0]


@transaction.atomic
def capture_many(
    *, captures: Sequence[Capture], acting_user: User | None, at: datetime
) -> list[Entry]:
    """Capture holds, an entry each, in their order; all or none.

    Raises as `capture_hold` for any of them, InvalidEntry where a hold stands twice. Six
    statements whatever their number, two more for each payer with a budget.
    """
    if len({one.hold.cause_id for one in captures}) != len(captures):
        raise InvalidEntry("A hold is captured once, and a cause has one hold.")
    for one in captures:
        check_amount(one.amount)
    ids = [one.hold.pk for one in captures]
    locked = Hold.objects.select_for_update(of=("self",)).filter(pk__in=ids).order_by("pk")
    holds = {hold.pk: hold for hold in locked}
    for one in captures:
        _check_capture(holds[one.hold.pk], one, at)
    pending = [one for one in captures if holds[one.hold.pk].state == Hold.State.PENDING]
    spent: dict[UUID, int] = defaultdict(int)
    for one in pending:
        spent[holds[one.hold.pk].payer_id] += one.amount
    note_spending(spent=spent, at=at)
    entries = [posted.get() for posted in post_entries(_capture_drafts(captures, acting_user, at))]
    by_hold = dict(zip(ids, entries, strict=True))
    for one in pending:
        hold, entry = holds[one.hold.pk], by_hold[one.hold.pk]
        _shut(hold, Hold.State.CAPTURED, entry, captured=one.amount, reason="", at=at)
    _save_closed([holds[one.hold.pk] for one in pending])
    audit.record_many(
        [
            audit.Act(
                actor=acting_user,
                verb="ledger.hold_captured",
                target=holds[one.hold.pk],
                data={"amount": str(one.amount), "entry": str(by_hold[one.hold.pk].pk)},
            )
            for one in pending
        ],
        at=at,
    )
    return entries


def _check_capture(hold: Hold, capture: Capture, at: datetime) -> None:
    if hold.state == Hold.State.RELEASED:
        raise HoldClosed("This hold was released; its money is back with the payer.")
    if hold.state == Hold.State.PENDING and hold.expires_at <= at:
        raise HoldExpired("This hold has expired; nothing was taken from it.")
    if capture.amount > hold.amount:
        raise InvalidAmount("A capture takes no more than was held.")
    _require_same_terms(hold, capture.terms)


def _capture_portions(capture: Capture) -> list[Portion]:
    hold, amount, refs = capture.hold, capture.amount, capture.refs
    return [
        Portion(Account.Kind.HOLD, hold.payer_id, -hold.amount, refs),
        Portion(Account.Kind.USER, hold.payer_id, hold.amount - amount, refs),
        *fees.divide_fee(amount, capture.terms, refs),
    ]


def _capture_drafts(
    captures: Sequence[Capture], acting_user: User | None, at: datetime
) -> list[Draft]:
    legs = legs_of_many({one.hold.cause_id: _capture_portions(one) for one in captures})
    return [
        Draft(
            kind=Entry.Kind.CAPTURE,
            key=f"capture:{one.hold.pk}",
            at=at,
            legs=legs[one.hold.cause_id],
            cause=Cause(one.hold.cause_kind, one.hold.cause_id),
            parameter_version=one.terms.version,
            acting_user=acting_user,
        )
        for one in captures
    ]


@transaction.atomic
def release_hold(*, hold: Hold, reason: str, acting_user: User | None, at: datetime) -> Entry:
    """Give everything back to the payer. Raises HoldClosed where the hold was captured."""
    hold = Hold.objects.select_for_update(of=("self",)).get(pk=hold.pk)
    if hold.state == Hold.State.CAPTURED:
        raise HoldClosed("This hold was captured; write a reversal to give the money back.")
    entry = post_entry(
        kind=Entry.Kind.RELEASE,
        key=f"release:{hold.pk}",
        at=at,
        legs=[
            Leg(account_for(Account.Kind.HOLD, hold.payer_id), -hold.amount),
            Leg(account_for(Account.Kind.USER, hold.payer_id), hold.amount),
        ],
        cause=Cause(hold.cause_kind, hold.cause_id),
        parameter_version=hold.split_version,
        acting_user=acting_user,
    )
    if hold.state == Hold.State.PENDING:
        _shut(hold, Hold.State.RELEASED, entry, captured=0, reason=reason, at=at)
        _save_closed([hold])
        audit.record(
            actor=acting_user,
            verb="ledger.hold_released",
            target=hold,
            at=at,
            data={"reason": reason, "entry": str(entry.pk)},
        )
    return entry


def release_expired_holds(*, at: datetime) -> int:
    """Release holds whose time ran out, each in a transaction of its own; return how many."""
    expired = Hold.objects.filter(state=Hold.State.PENDING, expires_at__lte=at)
    count = 0
    for hold in expired.order_by("expires_at")[:SWEEP]:
        try:
            release_hold(
                hold=hold, reason="It expired before the work ended.", acting_user=None, at=at
            )
        except HoldClosed:
            logger.info("hold %s was captured while it expired", hold.pk)
            continue
        count += 1
    return count


def terms_of(hold: Hold) -> Terms | None:
    """The terms that were fixed at the hold; None for one of before there were terms."""
    return fees.from_json(hold.terms) if hold.terms is not None else None


def _require_same_terms(hold: Hold, terms: Terms) -> None:
    if terms.version != hold.split_version:
        raise IdempotencyConflict(
            f"This hold was opened under parameter version {hold.split_version}, "
            f"not {terms.version}."
        )
    if hold.terms is not None and hold.terms != fees.to_json(terms):
        raise IdempotencyConflict("This hold was opened under other terms than these.")


def _shut(
    hold: Hold, state: Hold.State, entry: Entry, *, captured: int, reason: str, at: datetime
) -> None:
    hold.state, hold.closed_by, hold.captured = state, entry, captured
    hold.reason, hold.closed_at = reason[:200], at


def _save_closed(holds: Sequence[Hold]) -> None:
    fields = ["state", "closed_by", "captured", "reason", "closed_at"]
    if len(holds) == 1:
        holds[0].save(update_fields=fields)
    elif holds:
        Hold.objects.bulk_update(holds, fields)
