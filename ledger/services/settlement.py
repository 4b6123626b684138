"""Paying the contributors' part of a fee by the shares of its receipt."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts import audit, events
from accounts.models import User
from ledger.errors import InvalidEntry, UnknownAccount
from ledger.fees import Credit, Portion, Terms, divide_credits
from ledger.models import Account, Entry, Hold
from ledger.services.holds import terms_of
from ledger.services.opening import account_for, legs_of
from ledger.services.posting import Cause, Leg, Refs, post_entry
from ledger.splits import Part, Split

__all__ = ["SHARE_UNIT", "Credit", "settle_suspense"]

SHARE_UNIT = 10**9
# Nothing passes on by these; the split itself is not read again.
WITHOUT_TERMS = Split(0, (Part("contributors", 10_000),))


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
        platform = account_for(Account.Kind.PLATFORM, cause=completion_id)
        return [Leg(platform, amount, Refs(completion=completion_id))]
    portions = credit_portions(amount, credits, terms_of_completion(completion_id), completion_id)
    return legs_of(portions, cause=completion_id)


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


def terms_of_completion(completion_id: UUID) -> Terms:
    """The terms that were fixed when the completion's price was held; plain ones without any."""
    hold = Hold.objects.filter(cause_kind="completion", cause_id=completion_id).first()
    return (terms_of(hold) if hold else None) or Terms.of_split(WITHOUT_TERMS)


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
