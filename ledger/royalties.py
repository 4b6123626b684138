"""How much of a part passes on to ancestors, as whole weights, from their family and two numbers.

What is passed on is decided generation by generation: whoever gets something passes `basis_points`
of it to the direct parents, by their weights, and keeps the rest; at generation `depth` all is
kept. Every weight is multiplied out over one whole, so that a fee is divided once, exactly, and
nothing is rounded on the way. Plain integers; nothing here reads the database.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from uuid import UUID

from ledger.errors import SelfRoyalty
from ledger.splits import BASIS_POINTS, divide

DEEPEST = 10
KEPT = "kept"

# A descendant's parents with their weights in basis points, which make 10,000.
Parents = Mapping[UUID, Sequence[tuple[UUID, int]]]


@dataclass(frozen=True, slots=True)
class Royalty:
    """What passes to one ancestor: `weight` of the passing's `whole`.

    `source_id` is the ancestor, a model or a Datanet. `owner_id` is who is paid: the person whose
    model it is, or the Datanet itself, whose treasury it is.
    """

    owner_id: UUID
    source_id: UUID
    weight: int


@dataclass(frozen=True, slots=True)
class Passing:
    """A division of a part: royalties by weight, and the rest of `whole` is kept.

    Raises ValueError for weights that are not positive or that exceed the whole, and for an
    ancestor named twice.
    """

    whole: int = 1
    royalties: tuple[Royalty, ...] = ()

    def __post_init__(self) -> None:
        weights = [self.whole, *(royalty.weight for royalty in self.royalties)]
        if any(isinstance(w, bool) or not isinstance(w, int) or w <= 0 for w in weights):
            raise ValueError("The weights of royalties are whole numbers above 0.")
        if sum(weights[1:]) > self.whole:
            raise ValueError("Royalties exceed the part that they come from.")
        if len({royalty.source_id for royalty in self.royalties}) != len(self.royalties):
            raise ValueError("An ancestor stands twice among the royalties.")

    @property
    def kept(self) -> int:
        """The weight of what is not passed on."""
        return self.whole - sum(royalty.weight for royalty in self.royalties)

    def divide(self, amount: int) -> dict[str, int]:
        """Wei by the ancestor's id, and under KEPT what stays; adds up to `amount`."""
        passed = [(str(royalty.source_id), royalty.weight) for royalty in self.royalties]
        return divide(amount, [(KEPT, self.kept), *passed])

    def percent_of(self, royalty: Royalty) -> float:
        """For a page; money is never computed from it."""
        return 100 * royalty.weight / self.whole


def weigh(
    root: UUID,
    parents: Parents,
    *,
    basis_points: int,
    depth: int,
    gone: Collection[UUID] = (),
) -> tuple[int, dict[UUID, int]]:
    """(whole, weight by ancestor) of what `root` passes on; the rest of the whole is its own.

    An ancestor that is `gone` (taken down) earns nothing: what it would have kept stays with the
    one who passes it on, and what it would have passed on goes on to its own parents.

    Raises SelfRoyalty where `root` is among its own ancestors, ValueError for numbers that are out
    of range and for parents whose weights do not make 10,000.
    """
    if not 0 <= basis_points <= BASIS_POINTS or not 0 <= depth <= DEEPEST:
        raise ValueError("A royalty is 0 to 10,000 basis points, over 0 to 10 generations.")
    whole: int = (BASIS_POINTS * BASIS_POINTS) ** depth
    kept: dict[UUID, int] = defaultdict(int)
    # Of each generation: (who gets it, who gets what it would keep) to weight.
    level = {(root, root): whole}
    for generation in range(depth + 1):
        following: dict[tuple[UUID, UUID], int] = defaultdict(int)
        for (node, heir), weight in level.items():
            above = parents.get(node, ()) if generation < depth else ()
            passed = weight * basis_points // BASIS_POINTS if above else 0
            kept[heir] += weight - passed
            if passed:
                for parent, part in _checked(root, above):
                    inherits = heir if parent in gone else parent
                    following[parent, inherits] += passed * part // BASIS_POINTS
        level = following
    royalties = {node: weight for node, weight in kept.items() if node != root and weight}
    shared = gcd(whole, *royalties.values())
    return whole // shared, {node: weight // shared for node, weight in royalties.items()}


def _checked(root: UUID, above: Sequence[tuple[UUID, int]]) -> Sequence[tuple[UUID, int]]:
    if any(parent == root for parent, _ in above):
        raise SelfRoyalty("A self-referring royalty: something cannot be its own ancestor.")
    if sum(part for _, part in above) != BASIS_POINTS or any(part <= 0 for _, part in above):
        raise ValueError("The weights of parents are above 0 and make 10,000 basis points.")
    return above


def require_no_cycle(child: UUID, parent: UUID, parents: Parents) -> None:
    """Refuse a parent that is, or descends from, its child. Raises SelfRoyalty.

    `parents` holds everything above `parent`.
    """
    seen: set[UUID] = set()
    waiting = [parent]
    while waiting:
        node = waiting.pop()
        if node == child:
            raise SelfRoyalty(
                "A self-referring royalty: it would descend from itself and pay itself. "
                "Choose another parent."
            )
        if node not in seen:
            seen.add(node)
            waiting += [above for above, _ in parents.get(node, ())]
