"""Paying the contributors' part of a fee by the shares of its receipt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts import audit, events
from accounts.models import User
from ledger.errors import InvalidEntry, UnknownAccount
from ledger.fees import Credit, Portion, Terms, divide_credits
from ledger.models import Account, Entry, Hold, Posting
from ledger.services.holds import terms_of
from ledger.services.opening import legs_of_many
from ledger.services.posting import Cause, Draft, Leg, Refs, post_entries
from ledger.splits import Part, Split

__all__ = ["SHARE_UNIT", "Credit", "Settlement", "settle_many", "settle_suspense"]

SHARE_UNIT = 10**9
# Nothing passes on by these; the split itself is not read again.
PLAIN = Terms.of_split(Split(0, (Part("contributors", 10_000),)))


@dataclass(frozen=True, slots=True)
class Settlement:
    """Whose the contributors' part of a completion's fee is."""

    completion_id: UUID
    credits: Sequence[Credit]


def settle_suspense(
    *, completion_id: UUID, credits: Sequence[Credit], at: datetime
) -> Entry | None:
    """Empty the completion's suspense account by its receipt's shares, once; see `settle_many`."""
    return settle_many(settlements=[Settlement(completion_id, credits)], at=at)[completion_id]


@transaction.atomic
def settle_many(*, settlements: Sequence[Settlement], at: datetime) -> dict[UUID, Entry | None]:
    """Empty the suspense accounts of completions by their receipts' shares, each once.

    Shares add up to 10**9. Without credits (nobody's records mattered) everything goes to the
    platform. Asked again with the same credits, the first entry is returned. None where the
    completion left nothing in suspense, as one of a base model without contributors does.

    All or none: raises InvalidEntry (shares that make no whole, a share or a completion twice),
    UnknownAccount (a contributor who is no user) and IdempotencyConflict (settled before by other
    shares). Eight statements, whatever the number of completions.
    """
    _check(settlements)
    found = _Suspense(settlements)
    open_ones = [one for one in settlements if found.amounts.get(one.completion_id)]
    portions = {one.completion_id: found.portions(one) for one in open_ones}
    legs = legs_of_many(portions)
    posted = post_entries(
        [
            Draft(
                kind=Entry.Kind.SETTLEMENT,
                key=f"settlement:{one}",
                at=at,
                cause=Cause("completion", one),
                legs=[
                    Leg(found.accounts[one], -found.amounts[one], Refs(completion=one)),
                    *legs[one],
                ],
                parameter_version=found.versions.get(one),
            )
            for one in portions
        ]
    )
    entries: dict[UUID, Entry | None] = {one.completion_id: None for one in settlements}
    entries |= {one: done.get() for one, done in zip(portions, posted, strict=True)}
    _tell([done.get() for done in posted if done.is_new], found, at)
    return entries


def _tell(entries: Sequence[Entry], found: _Suspense, at: datetime) -> None:
    audit.record_many(
        [
            audit.Act(
                actor=None,
                verb="ledger.suspense_settled",
                target=entry,
                data={
                    "amount": str(found.amounts[entry.cause_id]),
                    "completion": str(entry.cause_id),
                },
            )
            for entry in entries
            if entry.cause_id is not None
        ],
        at=at,
    )
    events.emit_many(
        "ledger.suspense_settled",
        [{"completion_id": str(entry.cause_id), "entry_id": str(entry.pk)} for entry in entries],
        at=at,
    )


class _Suspense:
    """What waits for the receipts of completions, and the terms that it is divided by.

    The holds are locked, which everything that fills or empties suspense does first; so the
    balances stand still without a lock on an account of which nobody knows the others yet.
    """

    def __init__(self, settlements: Sequence[Settlement]) -> None:
        ids = [one.completion_id for one in settlements]
        holds = list(
            Hold.objects.select_for_update(of=("self",), no_key=True)
            .filter(cause_kind="completion", cause_id__in=ids)
            .order_by("pk")
        )
        self.accounts = {
            account.owner_id: account
            for account in Account.objects.filter(
                kind=Account.Kind.SUSPENSE, owner_id__in=ids
            ).only("kind", "owner_id", "balance")
            if account.owner_id is not None
        }
        self.amounts = {one: account.balance for one, account in self.accounts.items()}
        # Of those that were settled before: what was there then.
        before = Posting.objects.filter(
            entry__idempotency_key__in=[f"settlement:{one}" for one in ids],
            account__kind=Account.Kind.SUSPENSE,
        ).values_list("account__owner_id", "amount")
        self.amounts |= {owner: -amount for owner, amount in before if owner is not None}
        self.terms: dict[UUID, Terms] = {}
        self.versions: dict[UUID, int] = {}
        # The parameter version of the fee, which a later proposal does not change.
        for hold in holds:
            self.terms[hold.cause_id] = terms_of(hold) or PLAIN
            self.versions[hold.cause_id] = hold.split_version

    def portions(self, settlement: Settlement) -> list[Portion]:
        one = settlement.completion_id
        amount = self.amounts[one]
        if not settlement.credits:
            return [Portion(Account.Kind.PLATFORM, None, amount, Refs(completion=one))]
        return credit_portions(amount, settlement.credits, self.terms.get(one, PLAIN), one)


def _check(settlements: Sequence[Settlement]) -> None:
    if len({one.completion_id for one in settlements}) != len(settlements):
        raise InvalidEntry("A completion is settled once.")
    people: set[UUID] = set()
    for settlement in settlements:
        _check_credits(settlement.credits)
        people |= {one.owner_id for one in settlement.credits if one.kind == "contributor"}
    if people and User.objects.filter(pk__in=people).count() != len(people):
        raise UnknownAccount("A receipt names a contributor who is not here.")


def _check_credits(credits: Sequence[Credit]) -> None:
    if not credits:
        return
    different = {(one.kind, one.owner_id, one.datanet_id, one.model_id) for one in credits}
    if len(different) != len(credits):
        raise InvalidEntry("The same share stands twice in a receipt.")
    if any(
        isinstance(c.share_ppb, bool) or not isinstance(c.share_ppb, int) or c.share_ppb < 0
        for c in credits
    ):
        raise InvalidEntry("A share is a whole number of parts of 10**9, 0 or more.")
    total = sum(credit.share_ppb for credit in credits)
    if total != SHARE_UNIT:
        raise InvalidEntry(f"The shares of a receipt add up to {SHARE_UNIT}, not {total}.")


def credit_portions(
    amount: int, credits: Sequence[Credit], terms: Terms, completion_id: UUID
) -> list[Portion]:
    """Who gets what of the contributors' part; portions of nothing are left out.

    A royalty goes to the ancestor's treasury and names the Datanet that it comes from.
    """
    kinds = {"contributor": Account.Kind.EARNINGS, "treasury": Account.Kind.TREASURY}
    portions = []
    for one in divide_credits(amount, credits, terms):
        refs = Refs(one.credit.datanet_id, one.credit.model_id, completion_id)
        portions.append(Portion(kinds[one.credit.kind], one.credit.owner_id, one.kept, refs))
        portions += [
            Portion(Account.Kind.TREASURY, royalty.owner_id, passed, refs)
            for royalty, passed in one.royalties
        ]
    return [portion for portion in portions if portion.amount]
