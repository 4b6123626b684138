"""Captures as the product does them: hold, terms, the payer's budget, division, audit.

One by one (`capture_hold`), and as many at once as answers end together (`capture_many`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import User
from ledger import fees
from ledger.fees import Terms
from ledger.models import Account, Entry, Hold
from ledger.services.holds import Capture, capture_hold, capture_many
from ledger.services.opening import accounts_for
from ledger.services.posting import Cause, Draft, Leg, Refs, post_entries
from ledger.splits import Part, Split

HELD, PRICE = 3 * 10**15, 2 * 10**15
SPLIT = Split(
    1,
    (
        Part("platform", 1_000),
        Part("model_owner", 2_000),
        Part("stakers", 2_000),
        Part("contributors", 5_000),
    ),
)
AT_ONCE = 1_000


def hold_many(people: Sequence[User], count: int) -> list[Hold]:
    """Pending holds of these people in turn, written as the ledger writes them but together."""
    made: list[Hold] = []
    for first in range(0, count, AT_ONCE):
        made += _hold(people, range(first, min(first + AT_ONCE, count)))
    return made


def one_by_one(holds: list[Hold]) -> Callable[[], int]:
    """Takes from the end of the list until nothing is left."""

    def write() -> int:
        if not holds:
            raise StopIteration
        one = _capture(holds.pop())
        capture_hold(
            hold=one.hold,
            amount=one.amount,
            terms=one.terms,
            refs=one.refs,
            acting_user=None,
            at=timezone.now(),
        )
        return 1

    return write


def together(holds: list[Hold], size: int) -> Callable[[], int]:
    def write() -> int:
        if len(holds) < size:
            raise StopIteration
        captures = [_capture(holds.pop()) for _ in range(size)]
        return len(capture_many(captures=captures, acting_user=None, at=timezone.now()))

    return write


def _capture(hold: Hold) -> Capture:
    refs = Refs(model=hold.cause_id, completion=hold.cause_id)
    return Capture(hold, PRICE, fees.from_json(hold.terms or {}), refs)


def _hold(people: Sequence[User], numbers: range) -> list[Hold]:
    now = timezone.now()
    payers = [people[number % len(people)] for number in numbers]
    owners = [people[(number + 1) % len(people)] for number in numbers]
    held = accounts_for(Account.Kind.HOLD, [one.pk for one in payers])
    earned = accounts_for(Account.Kind.EARNINGS, [one.pk for one in payers])
    holds = [
        Hold(
            payer=payer,
            amount=HELD,
            cause_kind="completion",
            cause_id=uuid7(),
            split_version=1,
            terms=fees.to_json(Terms.of_split(SPLIT, owner.pk)),
            expires_at=now + timedelta(days=1),
        )
        for payer, owner in zip(payers, owners, strict=True)
    ]
    posted = post_entries(
        [
            Draft(
                kind=Entry.Kind.HOLD,
                key=f"hold:completion:{hold.cause_id}",
                at=now,
                legs=[Leg(earned[hold.payer_id], -HELD), Leg(held[hold.payer_id], HELD)],
                cause=Cause("completion", hold.cause_id),
            )
            for hold in holds
        ]
    )
    for hold, done in zip(holds, posted, strict=True):
        hold.opened_by = done.get()
    return Hold.objects.bulk_create(holds)
