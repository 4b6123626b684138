"""Giving a captured fee back, whatever has become of it since.

The payer gets all of it. What still lies where the fee had put it (the owner's, contributors' and
royalties' earnings, treasuries, stakers) is taken back from there; what has left (published,
claimed, made spendable, paid to a pool) is borne by the platform, and nobody is made a debtor of
money that they were paid in good faith. Reversing entries only: one of the capture and, where the
receipt was settled, one of the settlement, each with the platform in the place of who has moved on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q

from accounts import audit, events
from accounts.models import User
from accounts.notifications import notify
from ledger.errors import InsufficientFunds, NothingToRefund, ReasonMissing
from ledger.models import Account, Entry, Hold, Posting, Refund
from ledger.services.locking import lock_accounts
from ledger.services.opening import account_for
from ledger.services.posting import Cause, Draft, Leg, Refs, post_entries
from ledger.services.receivables import incoming
from ledger.words import open_text

Kind = Account.Kind
Place = tuple[str, UUID | None]
PLATFORM: Place = (Kind.PLATFORM, None)


@dataclass(slots=True)
class Division:
    """What a refund would do: legs by the entry that they reverse, and who bears what.

    `by_place` is what is taken back from each account, `short` what the platform lacks.
    """

    legs: dict[UUID, list[Leg]] = field(default_factory=dict)
    by_place: dict[Place, int] = field(default_factory=lambda: defaultdict(int))
    borne: int = 0
    short: int = 0


def refundable(cause_id: UUID) -> Hold | None:
    """The hold of what was paid for: a completion, or whatever else the house holds a price for."""
    found = Hold.objects.filter(cause_id=cause_id)
    return found.select_related("payer", "closed_by").first()


@transaction.atomic
def refund_fee(*, hold: Hold, reason: str, acting_user: User, at: datetime) -> Refund:
    """Give the payer the whole captured fee back; asked again, the first refund is returned.

    Raises PermissionDenied for all but staff, ReasonMissing, NothingToRefund (held still, or
    released) and InsufficientFunds (the platform cannot bear what has left). Nothing is written
    then.
    """
    if not acting_user.is_staff:
        raise PermissionDenied("Staff give fees back.")
    if not (reason := reason.strip()):
        raise ReasonMissing("Say why the fee is given back; the payer reads it.")
    # As a capture and a settlement do: nobody fills or empties the suspense account meanwhile.
    hold = Hold.objects.select_for_update(of=("self",)).get(pk=hold.pk)
    known = Refund.objects.filter(hold=hold).first()
    if known is not None:
        return known
    reversed_ones = _entries(hold)
    division = _divide(reversed_ones, _locked(reversed_ones, hold.payer_id))
    if division.short:
        raise InsufficientFunds(
            f"{open_text(division.borne)} OPEN of this fee have left already and are borne by the "
            f"platform, whose account lacks {open_text(division.short)} OPEN. Nothing was given "
            "back; try again when it has earned enough."
        )
    capture = reversed_ones[-1]
    payer = account_for(Kind.USER, hold.payer_id)
    division.legs[capture.pk] += incoming(payer, hold.captured)
    entries = {
        one.pk: posted.get()
        for one, posted in zip(
            reversed_ones,
            post_entries([_draft(one, division, hold, acting_user, at) for one in reversed_ones]),
            strict=True,
        )
    }
    refund = Refund.objects.create(
        hold=hold,
        amount=hold.captured,
        taken_back=hold.captured - division.borne,
        borne=division.borne,
        entry=entries[capture.pk],
        settlement=entries[reversed_ones[0].pk] if len(reversed_ones) == 2 else None,
        reason=reason[:500],
        actor=acting_user,
        created_at=at,
    )
    _tell(refund, hold, division, at)
    return refund


def what_it_takes(hold: Hold) -> Division:
    """What a refund would do now, without doing it. Raises NothingToRefund."""
    reversed_ones = _entries(hold)
    rows = {row.pk: row for row in Account.objects.filter(_rows_of(reversed_ones))}
    return _divide(reversed_ones, rows)


def _entries(hold: Hold) -> list[Entry]:
    """The settlement, where there was one, and the capture: in the order of their reversal."""
    if hold.state != Hold.State.CAPTURED or hold.closed_by is None:
        raise NothingToRefund("Nothing was captured, so there is nothing to give back.")
    settled = Entry.objects.filter(idempotency_key=f"settlement:{hold.cause_id}")
    is_of_a_completion = hold.cause_kind == "completion"
    return [*(settled if is_of_a_completion else ()), hold.closed_by]


def _gains(entry: Entry) -> list[Posting]:
    """What the entry gave to others than the payer."""
    given = entry.postings.filter(amount__gt=0).exclude(account__kind__in=[Kind.USER, Kind.HOLD])
    return list(given.select_related("account").order_by("account_id", "pk"))


def _rows_of(entries: Sequence[Entry]) -> Q:
    """All rows of all accounts that the entries paid into, and of the platform's."""
    places = {(p.account.kind, p.account.owner_id) for one in entries for p in _gains(one)}
    wanted = Q(kind=Kind.PLATFORM, owner_id=None)
    for kind, owner in places:
        wanted |= Q(kind=kind, owner_id=owner)
    return wanted


def _locked(entries: Sequence[Entry], payer_id: UUID) -> dict[UUID, Account]:
    """Those rows and the payer's, locked together."""
    account_for(Kind.PLATFORM)
    payer = account_for(Kind.USER, payer_id)
    owing = Q(kind=Kind.RECEIVABLE, owner_id=payer_id)
    return lock_accounts([payer, *Account.objects.filter(_rows_of(entries) | owing)])


class _Purses:
    """What is on accounts, while it is taken from them row by row."""

    def __init__(self, rows: Mapping[UUID, Account]) -> None:
        self.left = {pk: max(0, row.balance) for pk, row in rows.items()}
        self.rows: dict[Place, list[Account]] = defaultdict(list)
        for row in sorted(rows.values(), key=lambda row: row.pk):
            self.rows[row.kind, row.owner_id].append(row)

    def take(
        self, place: Place, amount: int, first: UUID | None = None
    ) -> list[tuple[Account, int]]:
        """Up to `amount` out of the account, from the row `first` before its others."""
        taken = []
        for row in sorted(self.rows[place], key=lambda row: row.pk != first):
            part = min(amount, self.left[row.pk])
            if part:
                taken.append((row, part))
                self.left[row.pk] -= part
                amount -= part
        return taken


def _divide(entries: Sequence[Entry], rows: Mapping[UUID, Account]) -> Division:
    """Everybody's part from where it lies, then what is missing from the platform."""
    purses, division = _Purses(rows), Division()
    missing: list[tuple[UUID, Refs, int]] = []
    waits = [p for one in entries for p in _gains(one) if p.account.kind == Kind.SUSPENSE]
    is_settled = len(entries) == 2
    for one in entries:
        legs = division.legs[one.pk] = []
        for posting in _gains(one):
            refs = Refs(posting.datanet_id, posting.model_id, posting.completion_id)
            if posting.account.kind == Kind.SUSPENSE:
                # Filled again by the reversal of the settlement, or never emptied.
                legs.append(Leg(posting.account, -posting.amount, refs))
                continue
            place = (posting.account.kind, posting.account.owner_id)
            taken = purses.take(place, posting.amount, posting.account_id)
            legs += [Leg(row, -part, refs) for row, part in taken]
            had = sum(part for _, part in taken)
            division.by_place[place] += had
            if had < posting.amount:
                missing.append((one.pk, refs, posting.amount - had))
    if is_settled:
        division.legs[entries[0].pk] += [
            Leg(p.account, p.amount, Refs(completion=p.completion_id)) for p in waits
        ]
    for entry_id, refs, amount in missing:
        taken = purses.take(PLATFORM, amount)
        division.legs[entry_id] += [Leg(row, -part, refs) for row, part in taken]
        division.borne += amount
        division.short += amount - sum(part for _, part in taken)
    return division


def _draft(
    reversed_one: Entry, division: Division, hold: Hold, acting_user: User, at: datetime
) -> Draft:
    return Draft(
        kind=Entry.Kind.REVERSAL,
        key=f"refund:{reversed_one.pk}",
        legs=division.legs[reversed_one.pk],
        at=at,
        cause=Cause(hold.cause_kind, hold.cause_id),
        parameter_version=reversed_one.parameter_version,
        reverses=reversed_one,
        acting_user=acting_user,
    )


def _tell(refund: Refund, hold: Hold, division: Division, at: datetime) -> None:
    audit.record(
        actor=refund.actor,
        verb="ledger.fee_refunded",
        target=refund,
        at=at,
        data={
            "amount": str(refund.amount),
            "borne": str(refund.borne),
            "reason": refund.reason,
            "cause": [hold.cause_kind, str(hold.cause_id)],
            "entry": str(refund.entry_id),
        },
    )
    events.emit(
        "ledger.fee_refunded",
        {
            "refund_id": str(refund.pk),
            "cause_kind": hold.cause_kind,
            "cause_id": str(hold.cause_id),
            "amount": str(refund.amount),
        },
        at=at,
    )
    notify(
        user=hold.payer,
        kind="ledger.fee_refunded",
        url=f"/explorer/entries/{refund.entry_id}/",
        at=at,
        title=f"{open_text(refund.amount)} OPEN were given back to you",
        body=refund.reason,
    )
    taken = {
        owner: amount
        for (kind, owner), amount in division.by_place.items()
        if kind == Kind.EARNINGS and owner is not None and amount
    }
    for person in User.objects.filter(pk__in=taken):
        notify(
            user=person,
            kind="ledger.earnings_taken_back",
            url="/earnings/entries/",
            at=at,
            title=f"{open_text(taken[person.pk])} OPEN of your earnings were taken back",
            body="The fee that they came from was given back to its payer.",
        )
