"""The one way by which money moves: a balanced entry, written once under its idempotency key.

Cost: two locks (the key, then the accounts in the order of their ids) and three statements,
whatever the number of legs. Balances are updated by the trigger on postings.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts.fields import WEI_LIMIT
from accounts.models import User
from ledger.errors import IdempotencyConflict, InsufficientFunds, InvalidAmount, InvalidEntry
from ledger.models import Account, Entry, Posting
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
    merged = _merge(legs)
    body_hash = _hash(kind, merged, cause, parameter_version, reverses)
    entry = Entry(
        kind=kind,
        idempotency_key=key,
        body_hash=body_hash,
        legs=len(merged),
        cause_kind=cause.kind if cause else "",
        cause_id=cause.id if cause else None,
        parameter_version=parameter_version,
        reverses=reverses,
        actor=acting_user,
        effective_at=at,
    )
    with transaction.atomic():
        # Waits here for another transaction that holds the key, before any account is locked.
        Entry.objects.bulk_create([entry], ignore_conflicts=True)
        written = Entry.objects.filter(idempotency_key=key).first()
        if written is None:
            raise InvalidEntry("This entry was reversed before.")
        if written.pk != entry.pk:
            if written.body_hash != body_hash:
                raise IdempotencyConflict(
                    f"The key {key} was used for another entry; use a new key."
                )
            return written
        _lock_and_check(merged)
        Posting.objects.bulk_create(
            [
                Posting(
                    entry=entry,
                    account=leg.account,
                    amount=leg.amount,
                    datanet_id=leg.refs.datanet,
                    model_id=leg.refs.model,
                    completion_id=leg.refs.completion,
                )
                for leg in merged
            ],
            batch_size=BATCH,
        )
    return entry


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


def _merge(legs: Iterable[Leg]) -> list[Leg]:
    """Add up legs to the same account about the same things, in a fixed order."""
    merged: dict[tuple[str, ...], Leg] = {}
    for leg in legs:
        if isinstance(leg.amount, bool) or not isinstance(leg.amount, int):
            raise InvalidAmount("An amount is a whole number of wei.")
        refs = leg.refs
        place = (str(leg.account.pk), str(refs.datanet), str(refs.model), str(refs.completion))
        before = merged[place].amount if place in merged else 0
        merged[place] = replace(leg, amount=before + leg.amount)
    kept = [merged[place] for place in sorted(merged) if merged[place].amount != 0]
    if any(abs(leg.amount) >= WEI_LIMIT for leg in kept):
        raise InvalidAmount("An amount must stay below 2**256 wei.")
    if sum(leg.amount for leg in kept) != 0:
        raise InvalidEntry("The legs of an entry add up to zero.")
    if not kept:
        raise InvalidEntry("An entry moves something.")
    return kept


def _hash(
    kind: Entry.Kind,
    legs: Sequence[Leg],
    cause: Cause | None,
    parameter_version: int | None,
    reverses: Entry | None,
) -> str:
    body = {
        "kind": str(kind),
        "cause": [cause.kind, str(cause.id)] if cause else None,
        "parameter_version": parameter_version,
        "reverses": str(reverses.pk) if reverses else None,
        "legs": [
            [str(leg.account.pk), str(leg.amount)]
            + [str(ref) for ref in (leg.refs.datanet, leg.refs.model, leg.refs.completion)]
            for leg in legs
        ],
    }
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _lock_and_check(legs: Sequence[Leg]) -> None:
    """Lock the accounts in the order of their ids, so that two entries never wait in a circle."""
    moves: dict[UUID, int] = defaultdict(int)
    for leg in legs:
        moves[leg.account.pk] += leg.amount
    locked = Account.objects.select_for_update(no_key=True).filter(pk__in=moves).order_by("pk")
    for account in locked:
        after = account.balance + moves[account.pk]
        if after < 0 and not account.overdraft:
            raise InsufficientFunds(
                f"{account.Kind(account.kind).label}: {open_text(account.balance)} OPEN are there, "
                f"{open_text(-moves[account.pk])} OPEN are needed."
            )
        if abs(after) >= WEI_LIMIT:
            raise InvalidAmount("A balance must stay below 2**256 wei.")
