"""Paying the contributors' part of a fee by the shares of its receipt."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from django.db import transaction

from accounts import audit, events
from accounts.models import User
from ledger.errors import InvalidEntry, UnknownAccount
from ledger.models import Account, Entry
from ledger.services.opening import account_for, accounts_for
from ledger.services.posting import Cause, Leg, Refs, post_entry
from ledger.splits import divide

SHARE_UNIT = 10**9


@dataclass(frozen=True, slots=True)
class Credit:
    """A share of the contributors' part, in parts of 10**9, for a contributor or a treasury."""

    kind: Literal["contributor", "treasury"]
    owner_id: UUID
    share_ppb: int
    datanet_id: UUID | None = None
    model_id: UUID | None = None

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.owner_id}:{self.datanet_id}:{self.model_id}"


@transaction.atomic
def settle_suspense(
    *, completion_id: UUID, credits: Sequence[Credit], at: datetime
) -> Entry | None:
    """Empty the completion's suspense account by its receipt's shares, once.

    Shares add up to 10**9. Without credits (nobody's records mattered) everything goes to the
    platform. Asked again with the same credits, the first entry is returned. None where the
    completion left nothing in suspense, as one of a base model without contributors does.

    Raises InvalidEntry (shares that make no whole, a share twice), UnknownAccount (a contributor
    who is no user) and IdempotencyConflict (settled before by other shares).
    """
    _check(credits)
    suspense = (
        Account.objects.filter(kind=Account.Kind.SUSPENSE, owner_id=completion_id)
        .select_for_update(no_key=True)
        .first()
    )
    if suspense is None:
        return None
    key = f"settlement:{completion_id}"
    written = Entry.objects.filter(idempotency_key=key).first()
    amount = _settled_amount(written, suspense) if written else suspense.balance
    if amount == 0:
        return None
    entry = post_entry(
        kind=Entry.Kind.SETTLEMENT,
        key=key,
        at=at,
        cause=Cause("completion", completion_id),
        legs=[
            Leg(suspense, -amount, Refs(completion=completion_id)),
            *_credit_legs(amount, credits, completion_id),
        ],
        parameter_version=_split_version(completion_id),
    )
    if written is None:
        audit.record(
            actor=None,
            verb="ledger.suspense_settled",
            target=entry,
            at=at,
            data={"amount": str(amount), "completion": str(completion_id)},
        )
        events.emit(
            "ledger.suspense_settled",
            {"completion_id": str(completion_id), "entry_id": str(entry.pk)},
            at=at,
        )
    return entry


def _check(credits: Sequence[Credit]) -> None:
    if not credits:
        return
    if len({credit.key for credit in credits}) != len(credits):
        raise InvalidEntry("The same share stands twice in a receipt.")
    if any(
        isinstance(c.share_ppb, bool) or not isinstance(c.share_ppb, int) or c.share_ppb < 0
        for c in credits
    ):
        raise InvalidEntry("A share is a whole number of parts of 10**9, 0 or more.")
    total = sum(credit.share_ppb for credit in credits)
    if total != SHARE_UNIT:
        raise InvalidEntry(f"The shares of a receipt add up to {SHARE_UNIT}, not {total}.")
    people = {credit.owner_id for credit in credits if credit.kind == "contributor"}
    if User.objects.filter(pk__in=people).count() != len(people):
        raise UnknownAccount("A receipt names a contributor who is not here.")


def _credit_legs(amount: int, credits: Sequence[Credit], completion_id: UUID) -> list[Leg]:
    if not credits:
        platform = account_for(Account.Kind.PLATFORM)
        return [Leg(platform, amount, Refs(completion=completion_id))]
    amounts = divide(amount, [(credit.key, credit.share_ppb) for credit in credits])
    kinds = {"contributor": Account.Kind.EARNINGS, "treasury": Account.Kind.TREASURY}
    legs: list[Leg] = []
    for name, kind in kinds.items():
        chosen = [c for c in credits if c.kind == name and amounts[c.key]]
        if not chosen:
            continue
        accounts = accounts_for(kind, [credit.owner_id for credit in chosen])
        legs += [
            Leg(
                accounts[credit.owner_id],
                amounts[credit.key],
                Refs(credit.datanet_id, credit.model_id, completion_id),
            )
            for credit in chosen
        ]
    return legs


def _settled_amount(written: Entry, suspense: Account) -> int:
    return -sum(p.amount for p in written.postings.all() if p.account_id == suspense.pk)


def _split_version(completion_id: UUID) -> int | None:
    """The parameter version of the fee, which a later proposal does not change."""
    return (
        Entry.objects.filter(
            kind=Entry.Kind.CAPTURE, cause_kind="completion", cause_id=completion_id
        )
        .values_list("parameter_version", flat=True)
        .first()
    )
