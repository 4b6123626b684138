"""A receipt that scores an answer once more, as its page and the API tell it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from accounts.models import User
from attribution.crediting import amounts, credit_of_shares
from attribution.groups import parse
from attribution.models import Receipt, Rescoring
from datanets.models import Datanet

PERCENT = 10**7  # parts of 10**9


@dataclass(frozen=True, slots=True)
class Moved:
    """A contributor's share for one Datanet, by the first receipt and by this one."""

    contributor: User | None
    datanet: Datanet | None
    datanet_id: UUID
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


def may_ask(receipt: Receipt, user: Any) -> bool:
    """Whether the page offers to score the answer once more."""
    parts = receipt.model_id and receipt.private and receipt.outcome != Receipt.Outcome.NO_ANSWER
    return bool(parts) and Receipt.objects.private_to(user).filter(pk=receipt.pk).exists()


def rescorings_of(receipt: Receipt, user: Any) -> list[Rescoring]:
    """Newest first; what is not done is for who may ask."""
    return list(Rescoring.objects.visible_to(user).filter(receipt=receipt))


def moved(rescoring: Rescoring, user: Any) -> list[Moved]:
    """Who has which share by the two receipts, the largest difference first."""
    earlier, later = rescoring.receipt.public["shares"], rescoring.public["shares"]
    return moved_between(earlier, later, rescoring.receipt, user)


def moved_between(
    earlier: Mapping[str, int], later: Mapping[str, int], receipt: Receipt, user: Any
) -> list[Moved]:
    """Who has which share of the receipt's money by two sets of shares of groups.

    The same wei are divided by both shares, so that the difference can be told in money. Treasuries
    that step in where nobody has a share, and what retrieval pays, are not in it.
    """
    before, after = _by_person(earlier), _by_person(later)
    paid, due = _wei(earlier, receipt), _wei(later, receipt)
    keys = {*before, *after}
    people = User.objects.in_bulk({contributor for contributor, _ in keys})
    datanets = Datanet.objects.visible_to(user).in_bulk({datanet for _, datanet in keys})
    lines = [
        Moved(
            people.get(key[0]),
            datanets.get(key[1]),
            key[1],
            before.get(key, 0),
            after.get(key, 0),
            due.get(key, 0) - paid.get(key, 0),
        )
        for key in sorted(keys)
    ]
    return sorted(lines, key=lambda one: -abs(one.after_ppb - one.before_ppb))


def _by_person(shares: Mapping[str, int]) -> dict[tuple[UUID, UUID], int]:
    found: dict[tuple[UUID, UUID], int] = defaultdict(int)
    for name, part in shares.items():
        group = parse(name)
        found[group.contributor, group.datanet] += part
    return found


def _wei(shares: Mapping[str, int], receipt: Receipt) -> dict[tuple[UUID, UUID], int]:
    assert receipt.model_id is not None
    credits = credit_of_shares(shares, receipt.model_id)
    divided = amounts(credits, receipt.amount)
    return {(one.owner_id, UUID(str(one.datanet_id))): divided[one.key] for one in credits}
