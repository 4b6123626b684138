"""Finding what a text nearly repeats: candidates by shared bands, then the verdict on each.

The work for one text is bounded, whatever others submitted to meet it: so many prints are looked
at, so many texts are read, so long may the verdicts take. What is left out is told (`is_cut`). Of
too many candidates the earliest are taken, since the first of a cluster is what matters and nobody
can push it out by copies that come later; and those that share most.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.models import QuerySet, TextField
from django.db.models.functions import Cast

from datanets.ingest import similar
from datanets.ingest.folding import Folded, fold
from datanets.ingest.prints import Print
from datanets.models import Record, RecordPrint
from datanets.models.prints import WHOLE
from datanets.models.records import WITHHELD

# Prints that share a band with any text of a batch and are looked at.
MET_AT_ONCE = 20_000
# Of these, for one text: how many questions are compared.
LOOKED_AT = 4_000
# Texts that one is compared with: so many that are equal in letters, so many that are not.
READ = 64
# What the verdicts on one text may take, in the nanoseconds of `similar.cost`.
COST = 500_000_000
# Texts that are held in memory at once.
HELD = 512
HEAD_CHARS = 1_000

# A print by its id, what it asks ("" where that was too long to be kept), the hash of its letters,
# and its bands.
Row = tuple[UUID, str, str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Near:
    """A record that says nearly what the one asked about says, and how nearly."""

    record_id: UUID
    parts: int


@dataclass(slots=True)
class Found:
    """`is_cut`: there were more candidates than were compared."""

    near: list[Near] = field(default_factory=list)
    is_cut: bool = False


@dataclass(slots=True)
class _Met:
    """Prints that share bands with one text, the earliest first, and how many bands each."""

    rows: dict[UUID, tuple[similar.Asking | None, str]] = field(default_factory=dict)
    bands: Counter[UUID] = field(default_factory=Counter)


def search(
    folded: Sequence[Folded],
    made: Sequence[Print],
    among: QuerySet[RecordPrint],
    own: Sequence[UUID] = (),
) -> list[Found]:
    """What each of the texts nearly repeats. With `own`, the ids of the texts themselves, they are
    compared with one another as well, and their prints in the database do not count."""
    beside = [
        (pk, head_of(text), one.letters, one.bands)
        for pk, text, one in zip(own, folded, made, strict=True)
    ] if own else []  # fmt: skip
    met, more = _met(made, among.exclude(pk__in=own) if own else among, beside)
    found = [Found(is_cut=more and bool(one.rows)) for one in met]
    wanted: list[list[UUID]] = []
    for place, (text, one) in enumerate(zip(folded, made, strict=True)):
        some, left_out = _candidates(text, one, met[place], own[place] if own else None)
        wanted.append(some)
        found[place].is_cut |= left_out
    known = dict(zip(own, folded, strict=False))
    for places in _groups(wanted):
        need = {pk for place in places for pk in wanted[place]} - known.keys()
        texts = known | {pk: fold(payload) for pk, payload in payloads(need)}
        for place in places:
            _judge(folded[place], wanted[place], texts, found[place])
    return found


def head_of(one: Folded) -> str:
    """What is kept of a question; "" where it is long, so that its text is read."""
    head = " ".join(similar.asked(one))
    return head if len(head) <= HEAD_CHARS else ""


def parts_of(a: Folded, b: Folded) -> int:
    """The verdict in parts of a thousand, 0 where they are two records."""
    score = similar.near(a, b)
    return max(1, int(score * WHOLE)) if score else 0


def payloads(wanted: Iterable[UUID]) -> Iterable[tuple[UUID, dict[str, Any]]]:
    """Those of the wanted records that are not withheld."""
    rows = Record.objects.filter(pk__in=list(wanted)).exclude(state__in=WITHHELD)
    return rows.values_list("pk", "payload").iterator(chunk_size=500)


def _met(
    made: Sequence[Print], among: QuerySet[RecordPrint], beside: Sequence[Row]
) -> tuple[list[_Met], bool]:
    """For each print those that share a band with it, the earliest; and whether there are more."""
    places: dict[int, list[int]] = defaultdict(list)
    for place, one in enumerate(made):
        for band in one.bands:
            places[band].append(place)
    found = [_Met() for _ in made]
    if not places:
        return found, False
    # By the id as text, or PostgreSQL would walk the primary key instead of looking bands up.
    stored = (
        among.filter(bands__overlap=list(places))
        .order_by(Cast("record_id", TextField()))
        .values_list("record_id", "head", "letters", "bands")[: MET_AT_ONCE + 1]
    )
    rows: Iterator[Row] = heapq.merge(
        stored.iterator(chunk_size=2_000), sorted(beside), key=lambda row: row[0]
    )
    for number, (pk, head, letters, bands) in enumerate(rows):
        if number == MET_AT_ONCE:
            return found, True
        asking = similar.asking(head.split(" ")) if head else None
        for band in bands:
            for place in places.get(band, ()):
                found[place].rows[pk] = (asking, letters)
                found[place].bands[pk] += 1
    return found, False


def _candidates(text: Folded, one: Print, met: _Met, own: UUID | None) -> tuple[list[UUID], bool]:
    """Those that do not ask about something else, the earliest; and whether some were left out."""
    mine = similar.asking(similar.asked(text))
    same: list[UUID] = []
    others: list[UUID] = []
    looked_at = [pk for pk in met.rows if pk != own]
    is_cut = len(looked_at) > LOOKED_AT
    for pk in _chosen(looked_at, met, LOOKED_AT):
        asking, letters = met.rows[pk]
        if letters == one.letters:
            same.append(pk)
        elif asking is None or not mine.letters or similar.may_ask_alike(mine, asking):
            others.append(pk)
    is_cut |= max(len(same), len(others)) > READ
    return [*same[:READ], *_chosen(others, met, READ)], is_cut


def _chosen(ids: list[UUID], met: _Met, most: int) -> list[UUID]:
    """At most so many: half of them the earliest, which no later copy pushes out, the others those
    that share most bands, which no crowd of like records pushes out."""
    if len(ids) <= most:
        return ids
    half = most // 2
    return ids[:half] + sorted(heapq.nlargest(most - half, ids[half:], key=met.bands.__getitem__))


def _groups(wanted: Sequence[Sequence[UUID]]) -> Iterator[list[int]]:
    """Places of texts whose candidates are read together: few enough to be held."""
    group: list[int] = []
    held: set[UUID] = set()
    for place, some in enumerate(wanted):
        if group and len(held.union(some)) > HELD:
            yield group
            group, held = [], set()
        group.append(place)
        held.update(some)
    if group:
        yield group


def _judge(
    text: Folded, candidates: Sequence[UUID], texts: dict[UUID, Folded], found: Found
) -> None:
    spent = 0
    for number, pk in enumerate(pk for pk in candidates if pk in texts):
        spent += similar.cost(text, texts[pk])
        if number and spent > COST:
            found.is_cut = True
            return
        if parts := parts_of(text, texts[pk]):
            found.near.append(Near(pk, parts))
