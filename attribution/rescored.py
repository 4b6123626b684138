"""A receipt that scores an answer once more, as its page and the API tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from accounts.models import User
from attribution.certainty import Certainty, certainty_from
from attribution.crediting import (
    CREDITED,
    Crediting,
    amounts,
    combine,
    credit_of_shares,
    of_merge,
)
from attribution.models import Receipt, Rescoring
from attribution.translog.money import readings
from datanets.models import Datanet
from ledger.services.settlement import Credit
from modelfactory.models import Model

PERCENT = 10**7  # parts of 10**9
Shares = Mapping[str, int]  # parts of 10**9 by group


@dataclass(frozen=True, slots=True)
class Moved:
    """A contributor's share for one Datanet and model, by the first receipt and by this one."""

    contributor: User | None
    datanet: Datanet | None
    datanet_id: UUID
    model_id: UUID
    before_ppb: int
    after_ppb: int
    # Wei by which the part of the fee would be larger.
    difference: int

    @property
    def before_percent(self) -> float:
        return self.before_ppb / PERCENT

    @property
    def after_percent(self) -> float:
        return self.after_ppb / PERCENT

    @property
    def difference_percent(self) -> float:
        return (self.after_ppb - self.before_ppb) / PERCENT


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model's index says now beside what it said then, and whose share moved by it.

    `then` and `now` are what the two bodies say of the model. Of several that answered as one,
    `percent` is the model's part, of which a contributor's share is told as a part of the whole;
    `model` is None where one answered, or the reader may not see it.
    """

    then: Mapping[str, Any]
    now: Mapping[str, Any]
    moved: list[Moved]
    certainty: Certainty | None
    model: Model | None = None
    percent: float = 100


def may_ask(receipt: Receipt, user: Any) -> bool:
    """Whether the page offers to score the answer once more."""
    has_model = receipt.model_id or "merge" in receipt.public
    parts = has_model and receipt.private and receipt.outcome != Receipt.Outcome.NO_ANSWER
    return bool(parts) and Receipt.objects.private_to(user).filter(pk=receipt.pk).exists()


def rescorings_of(receipt: Receipt, user: Any) -> list[Rescoring]:
    """Newest first; what is not done is for who may ask."""
    return list(Rescoring.objects.visible_to(user).filter(receipt=receipt))


def readings_of(rescoring: Rescoring, user: Any) -> list[Reading]:
    """Of the one model, or of each of several in their order."""
    receipt = rescoring.receipt
    then, now = readings(receipt.public), readings(rescoring.public)
    if "merge" not in rescoring.public:
        moved = moved_between(then[0]["shares"], now[0]["shares"], receipt, user)
        return [Reading(then[0], now[0], moved, certainty_from(now[0]["confidence"]))]
    moved = _moved(of_merge(then).credits, of_merge(now).credits, receipt, user)
    ids = [UUID(one["model"]["id"]) for one in now]
    models = Model.objects.visible_to(user).in_bulk(ids)
    return [
        Reading(
            before,
            after,
            [line for line in moved if line.model_id == model_id],
            certainty_from(after["confidence"]),
            models.get(model_id),
            after["share_ppb"] / PERCENT,
        )
        for model_id, before, after in zip(ids, then, now, strict=True)
    ]


def moved_between(
    earlier: Mapping[str, int], later: Mapping[str, int], receipt: Receipt, user: Any
) -> list[Moved]:
    """Who has which share of the receipt's money by two sets of shares of groups."""
    assert receipt.model_id is not None
    before = credit_of_shares(earlier, receipt.model_id)
    after = credit_of_shares(later, receipt.model_id)
    return _moved(before, after, receipt, user)


def moved_in_parts(
    parts: Sequence[tuple[UUID, int, Shares, Shares]], receipt: Receipt, user: Any
) -> list[Moved]:
    """The same of several models that answered as one, by (model, share in parts of 10**9, shares
    before, shares after): what moves is told as a part of the whole answer."""
    before = _credits([(model, share, was) for model, share, was, _ in parts])
    after = _credits([(model, share, is_now) for model, share, _, is_now in parts])
    return _moved(before, after, receipt, user)


def _credits(parts: Sequence[tuple[UUID, int, Shares]]) -> tuple[Credit, ...]:
    alone = [
        (share, Crediting(CREDITED, {}, credit_of_shares(shares, model)))
        for model, share, shares in parts
    ]
    return combine(alone).credits


def _moved(
    before: Sequence[Credit], after: Sequence[Credit], receipt: Receipt, user: Any
) -> list[Moved]:
    """The largest difference first.

    The same wei are divided by both, so that the difference can be told in money. Treasuries that
    step in where nobody has a share, and what retrieval pays, are not in it.
    """
    had, has = ({one.key: one.share_ppb for one in credits} for credits in (before, after))
    paid, due = (amounts(tuple(credits), receipt.amount) for credits in (before, after))
    named = {one.key: one for one in (*before, *after) if one.kind == "contributor"}
    people = User.objects.in_bulk({one.owner_id for one in named.values()})
    datanets = Datanet.objects.visible_to(user).in_bulk({one.datanet_id for one in named.values()})
    lines = [
        Moved(
            people.get(one.owner_id),
            datanets.get(one.datanet_id),
            UUID(str(one.datanet_id)),
            UUID(str(one.model_id)),
            had.get(key, 0),
            has.get(key, 0),
            due.get(key, 0) - paid.get(key, 0),
        )
        for key, one in sorted(named.items())
    ]
    return sorted(lines, key=lambda one: -abs(one.after_ppb - one.before_ppb))
