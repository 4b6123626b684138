"""The one way by which money moves: balanced entries, each written once under its idempotency key.

Any number of entries is one statement (`ledger.services.writing`): it locks the accounts in the
order of their ids, finds who would fall below zero, and writes entries, postings and, by the
trigger on postings, balances. Where something was refused or written before, a second look under
the same locks says which and why.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts.fields import WEI_LIMIT
from accounts.models import User
from ledger.errors import (
    IdempotencyConflict,
    InsufficientFunds,
    InvalidAmount,
    InvalidEntry,
    LedgerError,
)
from ledger.models import Account, Entry
from ledger.services import writing
from ledger.services.locking import lock_accounts
from ledger.words import open_text

BATCH = 5_000


@dataclass(frozen=True, slots=True)
class Refs:
    """What a posting is about. The ids belong to apps that stand above the ledger."""

    datanet: UUID | None = None
    model: UUID | None = None
    completion: UUID | None = None


@dataclass(frozen=True, slots=True)
class Leg:
    """`amount` wei into (positive) or out of (negative) `account`."""

    account: Account
    amount: int
    refs: Refs = Refs()


@dataclass(frozen=True, slots=True)
class Cause:
    """The thing that an entry was written for, for example ("completion", its id)."""

    kind: str
    id: UUID


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry that is to be written. What may be left out means the same as in `post_entry`."""

    kind: Entry.Kind
    key: str
    legs: Iterable[Leg]
    at: datetime
    cause: Cause | None = None
    parameter_version: int | None = None
    reverses: Entry | None = None
    acting_user: User | None = None


@dataclass(frozen=True, slots=True)
class Posted:
    """What became of a draft: its entry, or why it was refused."""

    entry: Entry | None = None
    is_new: bool = False
    refusal: LedgerError | None = None

    def get(self) -> Entry:
        """The entry. Raises the refusal."""
        if self.refusal is not None:
            raise self.refusal
        assert self.entry is not None
        return self.entry


def check_amount(amount: object) -> int:
    """Return `amount` where it is a whole, positive number of wei below 2**256.

    Raises InvalidAmount.
    """
    if isinstance(amount, bool) or not isinstance(amount, int):
        raise InvalidAmount("An amount is a whole number of wei.")
    if amount <= 0:
        raise InvalidAmount("An amount must be more than zero.")
    if amount >= WEI_LIMIT:
        raise InvalidAmount("An amount must stay below 2**256 wei.")
    return amount


def post_entry(
    *,
    kind: Entry.Kind,
    key: str,
    legs: Iterable[Leg],
    at: datetime,
    cause: Cause | None = None,
    parameter_version: int | None = None,
    reverses: Entry | None = None,
    acting_user: User | None = None,
) -> Entry:
    """Write an entry, or return the one that was written under `key` before.

    Legs of amount zero are left out; legs to the same account about the same things are added up.

    Raises InvalidEntry (sum not zero, no legs), InvalidAmount (not whole, too large),
    IdempotencyConflict (same key, other body) and InsufficientFunds (an account would fall below
    zero). Nothing is written then.
    """
    draft = Draft(kind, key, legs, at, cause, parameter_version, reverses, acting_user)
    return post_entries([draft])[0].get()


def post_entries(drafts: Sequence[Draft]) -> list[Posted]:
    """Write all drafts that can be written, as if one after the other, in one statement.

    What became of each comes back in the order of the drafts: the entry, new or written under its
    key before, or the refusal (IdempotencyConflict, InsufficientFunds, InvalidAmount of a balance),
    which leaves nothing of that draft. A caller who wants all or none raises inside its own
    transaction.

    Raises InvalidEntry and InvalidAmount, before anything is written, for legs that no ledger could
    take, and InvalidEntry where one key stands twice.
    """
    rows = [_row(draft) for draft in drafts]
    if len({row.entry.idempotency_key for row in rows}) != len(rows):
        raise InvalidEntry("The same key stands twice among the entries.")
    written = writing.write(rows)
    outcome = {pk: Posted(by_id, is_new=True) for pk, by_id in _by_id(rows, written).items()}
    left = [row for row in rows if row.entry.pk not in written]
    if left:
        # In one transaction, so that what is looked at is still locked when it is written.
        with transaction.atomic():
            outcome |= _second_look(left)
    return [outcome[row.entry.pk] for row in rows]


def reverse_entry(*, entry: Entry, at: datetime, acting_user: User | None) -> Entry:
    """Write the opposite of `entry`; the same reversal asked for twice is written once.

    Raises InsufficientFunds where the money has moved on already.
    """
    if entry.reverses_id is not None:
        raise InvalidEntry("A reversal is not reversed; write the first entry anew.")
    legs = [
        Leg(
            posting.account,
            -posting.amount,
            Refs(posting.datanet_id, posting.model_id, posting.completion_id),
        )
        for posting in entry.postings.select_related("account")
    ]
    return post_entry(
        kind=Entry.Kind.REVERSAL,
        key=f"reversal:{entry.pk}",
        legs=legs,
        at=at,
        cause=Cause("entry", entry.pk),
        parameter_version=entry.parameter_version,
        reverses=entry,
        acting_user=acting_user,
    )


def gather(
    kind: Account.Kind,
    owner_id: UUID | None,
    amount: int,
    refs: Refs | None = None,
    *,
    beside: Sequence[Account] = (),
) -> list[Leg]:
    """Legs that take `amount` wei from an account that is kept in several rows.

    Locks all of its rows, together with the entry's other accounts (`beside`), and empties them
    one after the other. What is missing is asked of the last, so that the entry is refused, or is
    found to be written already. Call it in the transaction of the entry. Raises InsufficientFunds
    where there is no such account.
    """
    mine = list(Account.objects.filter(kind=kind, owner_id=owner_id).order_by("pk"))
    if not mine:
        raise InsufficientFunds(f"{kind.label}: there is no OPEN yet.")
    locked = lock_accounts([*mine, *beside])
    rows = [locked[row.pk] for row in mine]
    legs, left = [], amount
    for row in rows:
        taken = left if row is rows[-1] else min(left, max(0, row.balance))
        legs.append(Leg(row, -taken, refs or Refs()))
        left -= taken
    return legs


def _row(draft: Draft) -> writing.Row:
    merged = _merge(draft.legs)
    cause = draft.cause
    entry = Entry(
        kind=draft.kind,
        idempotency_key=draft.key,
        body_hash=_hash(_body(draft, merged)),
        legs=len(merged),
        cause_kind=cause.kind if cause else "",
        cause_id=cause.id if cause else None,
        parameter_version=draft.parameter_version,
        reverses=draft.reverses,
        actor=draft.acting_user,
        effective_at=draft.at,
    )
    return writing.Row(
        entry,
        [
            (leg.account, leg.amount, leg.refs.datanet, leg.refs.model, leg.refs.completion)
            for leg in merged
        ],
    )


def _by_id(rows: Sequence[writing.Row], written: set[UUID]) -> dict[UUID, Entry]:
    return {row.entry.pk: row.entry for row in rows if row.entry.pk in written}


def _merge(legs: Iterable[Leg]) -> list[Leg]:
    """Add up legs to the same account about the same things, in the order in which they came."""
    merged: dict[tuple[UUID, Refs], Leg] = {}
    for leg in legs:
        if isinstance(leg.amount, bool) or not isinstance(leg.amount, int):
            raise InvalidAmount("An amount is a whole number of wei.")
        place = (leg.account.pk, leg.refs)
        before = merged.get(place)
        merged[place] = leg if before is None else replace(leg, amount=before.amount + leg.amount)
    kept = [leg for leg in merged.values() if leg.amount != 0]
    if any(abs(leg.amount) >= WEI_LIMIT for leg in kept):
        raise InvalidAmount("An amount must stay below 2**256 wei.")
    if sum(leg.amount for leg in kept) != 0:
        raise InvalidEntry("The legs of an entry add up to zero.")
    if not kept:
        raise InvalidEntry("An entry moves something.")
    return kept


Body = dict[str, object]


def _body(draft: Draft, legs: Sequence[Leg]) -> Body:
    """What a key stands for. Accounts are named by kind and owner: which row of a sharded account
    was taken is not part of it."""
    return _body_of(
        str(draft.kind),
        [draft.cause.kind, str(draft.cause.id)] if draft.cause else None,
        draft.parameter_version,
        draft.reverses.pk if draft.reverses else None,
        (
            ((leg.account, leg.refs.datanet, leg.refs.model, leg.refs.completion), leg.amount)
            for leg in legs
        ),
    )


def _written_body(entry: Entry) -> Body:
    return _body_of(
        entry.kind,
        [entry.cause_kind, str(entry.cause_id)] if entry.cause_id else None,
        entry.parameter_version,
        entry.reverses_id,
        (
            ((row.account, row.datanet_id, row.model_id, row.completion_id), row.amount)
            for row in entry.postings.select_related("account")
        ),
    )


def _body_of(
    kind: str,
    cause: list[str] | None,
    parameter_version: int | None,
    reverses: UUID | None,
    legs: Iterable[tuple[tuple[Account, UUID | None, UUID | None, UUID | None], int]],
) -> Body:
    sums: dict[str, int] = defaultdict(int)
    for (account, *refs), amount in legs:
        ids = (account.owner_id, *refs)
        sums[" ".join((account.kind, *("-" if one is None else one.hex for one in ids)))] += amount
    return {
        "kind": kind,
        "cause": cause,
        "parameter_version": parameter_version,
        "reverses": str(reverses) if reverses else None,
        "legs": [[place, str(sums[place])] for place in sorted(sums)],
    }


def _hash(body: Body) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _second_look(rows: Sequence[writing.Row]) -> dict[UUID, Posted]:
    """Decide about each row that the statement left out, one after the other, under the locks.

    What is known to be written needs none: who asks for it again, perhaps with other things locked
    already, waits for nobody. Where the others fell short, the statement holds the locks of them
    all, and this takes none that is new.
    """
    known = _known(rows)
    unknown = [row for row in rows if row.entry.idempotency_key not in known]
    balances = lock_accounts(leg[0] for row in unknown for leg in row.legs) if unknown else {}
    outcome: dict[UUID, Posted] = {}
    accepted = []
    for row in rows:
        refusal = None if row.entry.idempotency_key in known else _refusal(row, balances)
        if refusal is not None:
            outcome[row.entry.pk] = Posted(refusal=refusal)
        else:
            accepted.append(row)
    written = writing.write([r for r in accepted if r.entry.idempotency_key not in known])
    known |= _known([row for row in accepted if row.entry.pk not in written])
    for row in accepted:
        outcome[row.entry.pk] = (
            Posted(row.entry, is_new=True) if row.entry.pk in written else _as_known(row, known)
        )
    return outcome


def _known(rows: Sequence[writing.Row]) -> dict[str, Entry]:
    keys = [row.entry.idempotency_key for row in rows]
    found = Entry.objects.filter(idempotency_key__in=keys) if keys else []
    return {entry.idempotency_key: entry for entry in found}


def _as_known(row: writing.Row, known: Mapping[str, Entry]) -> Posted:
    """The entry that was written under the row's key before."""
    key = row.entry.idempotency_key
    before = known.get(key)
    if before is None:
        return Posted(refusal=InvalidEntry("This entry was reversed before."))
    # Entries of older versions were hashed in another way; the bodies themselves decide.
    body_hash = row.entry.body_hash
    if before.body_hash != body_hash and _hash(_written_body(before)) != body_hash:
        return Posted(
            refusal=IdempotencyConflict(f"The key {key} was used for another entry; use a new key.")
        )
    return Posted(before)


def _refusal(row: writing.Row, balances: Mapping[UUID, Account]) -> LedgerError | None:
    """Why the row cannot be written; None where it can, and then it counts in the balances."""
    moves: dict[UUID, int] = defaultdict(int)
    for account, amount, *_ in row.legs:
        moves[account.pk] += amount
    for pk, amount in moves.items():
        account = balances[pk]
        after = account.balance + amount
        if after < 0 and not account.overdraft:
            return InsufficientFunds(
                f"{account.Kind(account.kind).label}: {open_text(account.balance)} OPEN are there, "
                f"{open_text(-amount)} OPEN are needed."
            )
        if abs(after) >= WEI_LIMIT:
            return InvalidAmount("A balance must stay below 2**256 wei.")
    for pk, amount in moves.items():
        balances[pk].balance += amount
    return None
