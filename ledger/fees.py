"""The terms of a fee, fixed when its price is held, and the fee's division by them to the wei.

    fee ── split ──┬─ platform
                   ├─ stakers
                   ├─ the owner's part ─┬─ royalties to the owners of ancestors (by weight)
                   │                    ├─ who staked on the model (of what the owner keeps)
                   │                    └─ the model's owner
                   └─ contributors' part: waits for the receipt; then each credit passes on
                      the royalty of the Datanet in whose name it is

Nothing here reads the database: whoever holds an entry and the terms computes the same amounts
again, as the offline verifier does (`attribution/translog/money.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from ledger.errors import SelfRoyalty
from ledger.models import Account
from ledger.royalties import KEPT, Passing, Royalty
from ledger.services.posting import Refs
from ledger.splits import BASIS_POINTS, Part, Split, divide

OWNER = "owner"
STAKERS = "stakers"


@dataclass(frozen=True, slots=True)
class Terms:
    """By what a fee is divided. A later change of anything in it never reaches the fee.

    `royalties` divide the owner's part, `datanets` what is credited in a Datanet's name, by its
    id; `model_stakers_bps` is the part of what the owner keeps that goes to those who staked on
    the model. Raises ValueError for terms that cannot be, SelfRoyalty for a Datanet that would
    pay itself.
    """

    split: Split
    model_owner: UUID | None = None
    model_stakers_bps: int = 0
    royalties: Passing = field(default_factory=Passing)
    datanets: tuple[tuple[UUID, Passing], ...] = ()

    def __post_init__(self) -> None:
        points = self.model_stakers_bps
        if isinstance(points, bool) or not isinstance(points, int):
            raise ValueError("The part of a model's stakers is a whole number of basis points.")
        if not 0 <= points <= BASIS_POINTS:
            raise ValueError("The part of a model's stakers is 0 to 10,000 basis points.")
        if self.model_owner is None and (points or self.royalties.royalties):
            raise ValueError("Without a model's owner there is no part to pass on.")
        if len(dict(self.datanets)) != len(self.datanets):
            raise ValueError("A Datanet stands twice among the terms.")
        for datanet, passing in self.datanets:
            refuse_self(datanet, passing)

    @property
    def version(self) -> int:
        """Of the governed parameters."""
        return self.split.version

    def passing_of(self, datanet_id: UUID | None) -> Passing:
        """What a credit in the Datanet's name passes on."""
        return next((passing for key, passing in self.datanets if key == datanet_id), Passing())

    @classmethod
    def of_split(cls, split: Split, model_owner: UUID | None = None) -> Terms:
        """Terms without ancestors."""
        return cls(split, model_owner)


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


@dataclass(frozen=True, slots=True)
class Credited:
    """What one credit comes to: `amount` wei, of which `royalties` pass on, by (source, wei)."""

    credit: Credit
    amount: int
    kept: int
    royalties: tuple[tuple[Royalty, int], ...]


@dataclass(frozen=True, slots=True)
class Portion:
    """`amount` wei of a fee for an account, which its caller opens."""

    kind: Account.Kind
    owner_id: UUID | None
    amount: int
    refs: Refs


def refuse_self(payer: UUID | None, passing: Passing) -> None:
    """Raises SelfRoyalty where who passes on is among those it passes on to."""
    if any(royalty.source_id == payer for royalty in passing.royalties):
        raise SelfRoyalty("A self-referring royalty: nothing was divided by these terms.")


def divide_fee(amount: int, terms: Terms, refs: Refs) -> list[Portion]:
    """Who gets what of a fee, to the wei; the portions add up to `amount`.

    Without a model owner, or without a model whose contributors could share, those parts go to
    the platform. A royalty's portion names the ancestor as its model. The order of parts and
    royalties in the terms has no meaning. Raises ValueError for a negative amount, SelfRoyalty.
    """
    refuse_self(refs.model, terms.royalties)
    parts = terms.split.amounts(amount)
    platform = parts["platform"]
    portions = [Portion(Account.Kind.STAKERS, None, parts["stakers"], refs)]
    if terms.model_owner is None:
        platform += parts["model_owner"]
    else:
        portions += _owner_portions(parts["model_owner"], terms, terms.model_owner, refs)
    if refs.model is None or refs.completion is None:
        platform += parts["contributors"]
    else:
        kind = Account.Kind.SUSPENSE
        portions.append(Portion(kind, refs.completion, parts["contributors"], refs))
    return [Portion(Account.Kind.PLATFORM, None, platform, refs), *portions]


def divide_owner_part(amount: int, terms: Terms) -> dict[str, int]:
    """Wei of the owner's part for OWNER, STAKERS and each ancestor by its id."""
    kept, points = terms.royalties.kept, terms.model_stakers_bps
    return divide(
        amount,
        [
            (OWNER, kept * (BASIS_POINTS - points)),
            (STAKERS, kept * points),
            *((str(r.source_id), r.weight * BASIS_POINTS) for r in terms.royalties.royalties),
        ],
    )


def _owner_portions(amount: int, terms: Terms, owner: UUID, refs: Refs) -> list[Portion]:
    parts = divide_owner_part(amount, terms)
    portions = [Portion(Account.Kind.EARNINGS, owner, parts[OWNER], refs)]
    if refs.model is not None:
        portions.append(Portion(Account.Kind.MODEL_STAKES, refs.model, parts[STAKERS], refs))
    else:
        portions.append(Portion(Account.Kind.EARNINGS, owner, parts[STAKERS], refs))
    for royalty in terms.royalties.royalties:
        told = Refs(model=royalty.source_id, completion=refs.completion)
        part = parts[str(royalty.source_id)]
        portions.append(Portion(Account.Kind.EARNINGS, royalty.owner_id, part, told))
    return portions


def divide_credits(amount: int, credits: Sequence[Credit], terms: Terms) -> list[Credited]:
    """What each credit gets of the contributors' part, and what of it passes on, to the wei.

    Each credit gets its amount by its share first, and is divided for itself then: what somebody
    is paid depends on nobody else's royalty. Raises ValueError for shares without a sum.
    """
    if not credits:
        return []
    keys = [credit.key for credit in credits]
    amounts = divide(amount, list(zip(keys, (one.share_ppb for one in credits), strict=True)))
    passings = dict(terms.datanets)
    found = []
    for credit, key in zip(credits, keys, strict=True):
        passing = passings.get(credit.datanet_id) if credit.datanet_id is not None else None
        if passing is None:
            found.append(Credited(credit, amounts[key], amounts[key], ()))
            continue
        parts = passing.divide(amounts[key])
        royalties = tuple(
            (royalty, parts[str(royalty.source_id)])
            for royalty in passing.royalties
            if parts[str(royalty.source_id)]
        )
        found.append(Credited(credit, amounts[key], parts[KEPT], royalties))
    return found


# ---------------------------------------------------------------------- as it is kept


def to_json(terms: Terms) -> dict[str, Any]:
    """JSON of the terms in one form whatever the order in them; weights are decimal strings."""
    parts: dict[str, int] = {part.kind: part.basis_points for part in terms.split.parts}
    return {
        "split": {"version": terms.version, "parts": dict(sorted(parts.items()))},
        "model_owner": str(terms.model_owner) if terms.model_owner else None,
        "model_stakers_bps": terms.model_stakers_bps,
        "royalties": passing_to_json(terms.royalties),
        "datanets": {
            str(datanet): passing_to_json(passing)
            for datanet, passing in sorted(terms.datanets)
            if passing.royalties
        },
    }


def from_json(value: Mapping[str, Any]) -> Terms:
    """The terms that `to_json` wrote."""
    split = value["split"]
    owner = value["model_owner"]
    return Terms(
        split=Split(split["version"], tuple(Part(k, v) for k, v in split["parts"].items())),
        model_owner=UUID(owner) if owner else None,
        model_stakers_bps=value["model_stakers_bps"],
        royalties=passing_from_json(value["royalties"]),
        datanets=tuple(
            (UUID(datanet), passing_from_json(passing))
            for datanet, passing in value["datanets"].items()
        ),
    )


def passing_to_json(passing: Passing) -> dict[str, Any]:
    return {
        "whole": str(passing.whole),
        "royalties": [
            {"owner": str(r.owner_id), "source": str(r.source_id), "weight": str(r.weight)}
            for r in sorted(passing.royalties, key=lambda r: r.source_id)
        ],
    }


def passing_from_json(value: Mapping[str, Any]) -> Passing:
    return Passing(
        int(value["whole"]),
        tuple(
            Royalty(UUID(one["owner"]), UUID(one["source"]), int(one["weight"]))
            for one in value["royalties"]
        ),
    )
