"""Where a Datanet comes from, and what of its credits passes on to the Datanets above it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from datanets.models import Datanet, DatanetState, Version
from governance.selectors import Parameters
from ledger.royalties import DEEPEST, Passing, Royalty, weigh
from ledger.splits import BASIS_POINTS


@dataclass(frozen=True)
class Family:
    """The Datanets that were asked for with all above them. Fixed when a Datanet is made, but for
    `gone`, those that were taken down."""

    parents: dict[UUID, list[tuple[UUID, int]]]
    gone: frozenset[UUID]
    names: dict[UUID, str]

    @property
    def members(self) -> list[UUID]:
        return sorted(self.names)


@dataclass(frozen=True)
class Ancestor:
    """One Datanet above another: by which version, what passes to it, in percent of a credit."""

    version: Version
    percent: float

    @property
    def datanet(self) -> Datanet:
        return self.version.datanet


def family_of(datanet_ids: Collection[UUID]) -> Family:
    """One query for each generation, DEEPEST at most."""
    parents: dict[UUID, list[tuple[UUID, int]]] = {}
    gone: set[UUID] = set()
    names: dict[UUID, str] = {}
    level = set(datanet_ids)
    for _ in range(DEEPEST + 1):
        if not level:
            break
        rows = Datanet.objects.filter(pk__in=level).values_list(
            "pk", "name", "state", "derived_from__datanet_id"
        )
        level = set()
        for pk, name, state, parent in rows:
            names[pk] = name
            if state == DatanetState.TAKEN_DOWN:
                gone.add(pk)
            if parent is not None:
                parents[pk] = [(parent, BASIS_POINTS)]
                level.add(parent)
        level -= names.keys()
    return Family(parents, frozenset(gone), names)


def passings(datanet_ids: Collection[UUID], parameters: Parameters) -> dict[UUID, Passing]:
    """What credits pass on in the name of each Datanet and of those above it, where they do.

    A version holds the records of the one that it was derived from, so that an answer may credit
    people in an ancestor's name, too.
    """
    family = family_of(datanet_ids)
    found = {}
    for datanet in family.parents:
        whole, weights = weigh(
            datanet,
            family.parents,
            basis_points=parameters.governed("royalty.datanet_bps"),
            depth=parameters.governed("royalty.depth"),
            gone=family.gone,
        )
        royalties = [Royalty(node, node, weight) for node, weight in sorted(weights.items())]
        if royalties:
            found[datanet] = Passing(whole, tuple(royalties))
    return found


def ancestry(datanet: Datanet, parameters: Parameters) -> list[Ancestor]:
    """The Datanets above one, nearest first, with what passes on to each now."""
    passing = passings([datanet.pk], parameters).get(datanet.pk, Passing())
    percent = {one.source_id: passing.percent_of(one) for one in passing.royalties}
    found: list[Ancestor] = []
    version = datanet.derived_from
    while version is not None and len(found) < DEEPEST:
        found.append(Ancestor(version, percent.get(version.datanet_id, 0.0)))
        version = version.datanet.derived_from
    return found
