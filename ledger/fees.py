"""The terms of a fee, fixed when its price is held, and the fee's division by them to the wei.

    fee ── split ──┬─ platform
                   ├─ stakers
                   ├─ the owner's part ─┬─ royalties to the owners of ancestors (by weight)
                   │                    ├─ who staked on the model (of what the owner keeps)
                   │                    └─ the model's owner
                   │                    (several models that answered as one share it by weight
                   │                    first, and each divides its own so)
                   └─ contributors' part: waits for the receipt; then each credit passes on
                      the royalty of the Datanet in whose name it is

Nothing here reads the database: whoever holds an entry and the terms computes the same amounts
again, as the offline verifier does (`attribution/translog/money.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal
from uuid import UUID

from ledger.errors import SelfRoyalty
from ledger.models import Account
from ledger.royalties import KEPT, Passing, Royalty
from ledger.services.posting import Refs
from ledger.splits import BASIS_POINTS, Part, Split, divide

OWNER = "owner"
STAKERS = "stakers"
WHOLE = 10**9


@dataclass(frozen=True, slots=True)
class Parent:
    """One of several models that answer as one: `share_ppb` of 10**9 of the owner's part is its
    own, and divided as if it had answered alone."""

    model_id: UUID
    share_ppb: int
    owner_id: UUID
    stakers_bps: int = 0
    royalties: Passing = field(default_factory=Passing)


@dataclass(frozen=True, slots=True)
class Terms:
    """By what a fee is divided. A later change of anything in it never reaches the fee.

    `royalties` divide the owner's part, `datanets` what is credited in a Datanet's name, by its
    id; `model_stakers_bps` is the part of what the owner keeps that goes to those who staked on
    the model. Several models that answer as one are `parents`, each with an owner and royalties of
    its own; then there is no one owner. Raises ValueError for terms that cannot be, SelfRoyalty
    for a Datanet or a model that would pay itself.
    """

    split: Split
    model_owner: UUID | None = None
    model_stakers_bps: int = 0
    royalties: Passing = field(default_factory=Passing)
    datanets: tuple[tuple[UUID, Passing], ...] = ()
    parents: tuple[Parent, ...] = ()

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
        if self.parents:
            self._check_parents()

    def _check_parents(self) -> None:
        if self.model_owner is not None:
            raise ValueError("Models that answer as one have an owner each, and not one together.")
        if len({one.model_id for one in self.parents}) != len(self.parents):
            raise ValueError("A model stands twice among those that answer as one.")
        shares = [one.share_ppb for one in self.parents]
        if any(isinstance(one, bool) or not isinstance(one, int) or one < 0 for one in shares):
            raise ValueError("The share of a model is a whole number of parts of 10**9.")
        if sum(shares) != WHOLE:
            raise ValueError(f"The shares of models that answer as one add up to {WHOLE}.")
        for one in self.parents:
            refuse_self(one.model_id, one.royalties)
            self.alone(one)

    def alone(self, parent: Parent) -> Terms:
        """By what the part of one of several models is divided: as if it had answered alone."""
        return Terms(self.split, parent.owner_id, parent.stakers_bps, parent.royalties)

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
    # Tells it apart from the others of its receipt. Written once: it is asked for many times.
    key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        key = f"{self.kind}:{self.owner_id}:{self.datanet_id}:{self.model_id}"
        object.__setattr__(self, "key", key)


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
    if terms.parents:
        portions += _parents_portions(parts["model_owner"], terms, refs)
    elif terms.model_owner is None:
        platform += parts["model_owner"]
    else:
        portions += _owner_portions(parts["model_owner"], terms, terms.model_owner, refs)
    if refs.completion is None or (refs.model is None and not terms.parents):
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


def divide_among_parents(amount: int, terms: Terms) -> dict[UUID, int]:
    """Wei of the owner's part for each of several models that answered as one, by its id."""
    divided = divide(amount, [(str(one.model_id), one.share_ppb) for one in terms.parents])
    return {UUID(model): part for model, part in divided.items()}


def _parents_portions(amount: int, terms: Terms, refs: Refs) -> list[Portion]:
    """What each of several models' owners, stakers and ancestors get; each names its model."""
    parts = divide_among_parents(amount, terms)
    portions: list[Portion] = []
    for one in terms.parents:
        told = Refs(model=one.model_id, completion=refs.completion)
        portions += _owner_portions(parts[one.model_id], terms.alone(one), one.owner_id, told)
    return portions


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
    """JSON of the terms in one form whatever the order in them; weights are decimal strings.

    Only those of several models name `parents`.
    """
    parts: dict[str, int] = {part.kind: part.basis_points for part in terms.split.parts}
    told: dict[str, Any] = {
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
    if terms.parents:
        told["parents"] = [
            {
                "model": str(one.model_id),
                "share_ppb": one.share_ppb,
                "owner": str(one.owner_id),
                "stakers_bps": one.stakers_bps,
                "royalties": passing_to_json(one.royalties),
            }
            for one in sorted(terms.parents, key=lambda one: one.model_id)
        ]
    return told


def from_json(value: Mapping[str, Any]) -> Terms:
    """The terms that `to_json` wrote."""
    return _read(json.dumps(value))


# Thousands of answers have a model's terms; to read them takes longer than to compare their text.
@lru_cache(maxsize=1024)
def _read(text: str) -> Terms:
    value = json.loads(text)
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
        parents=tuple(
            Parent(
                UUID(one["model"]),
                one["share_ppb"],
                UUID(one["owner"]),
                one["stakers_bps"],
                passing_from_json(one["royalties"]),
            )
            for one in value.get("parents", ())
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
