"""Which records say nearly the same: compared by the ingest worker, a batch at a time.

A comparison looks at texts alone, so it is made once for a record, whatever becomes of it. Who is
the first of a cluster follows from the records' states, see origins.py.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from accounts import outbox
from datanets.ingest import similar
from datanets.ingest.folding import Folded, fold
from datanets.ingest.prints import Print, prints
from datanets.models import Datanet, DatanetState, NearLink, Record, RecordPrint, RecordState
from datanets.models.prints import WHOLE
from datanets.models.records import WITHHELD
from datanets.services import origins

TASK = "datanets.tasks.compare_records"
BATCH = 200
# Prints that a batch looks at, and texts that a record is compared with: the earliest.
MET_AT_ONCE = 20_000
READ = 64
HEAD_CHARS = 1_000

# A record that shares a band: its id, what it asks (None where that was too long to be kept), and
# the hash of its letters.
_Met = tuple[UUID, similar.Asking | None, str]


@dataclass(frozen=True, slots=True)
class Near:
    """A record that says nearly what the one asked about says, and how nearly."""

    record_id: UUID
    parts: int


def request_comparison(*, at: datetime) -> None:
    """Have a worker compare what was not compared yet."""
    outbox.enqueue(task=TASK, args=[], queue="ingest", at=at, key="near-duplicates")


def compare_all(*, waits: bool = False) -> int:
    """Compare every record that was not, in the order of ids; return how many. Where another
    worker is at it, leave it to that one, or with `waits` go on once it has done a batch."""
    done = 0
    while compared := _compare_batch(waits):
        origins.refresh(compared)
        done += len(compared)
    # Where a worker died between the two steps, or a verdict came between them.
    origins.refresh(origins.overdue())
    return done


def near_in(datanet: Datanet, records: Sequence[Folded]) -> dict[int, Near]:
    """Of texts that are not records yet, those that say nearly what one of the Datanet's or of the
    public ones does, by their place; the nearest each."""
    public = Q(record__state=RecordState.ACCEPTED, record__datanet__state=DatanetState.PUBLISHED)
    among = RecordPrint.objects.filter(Q(record__datanet=datanet) | public)
    found = {}
    for place, near in enumerate(_near(records, prints(records), among)):
        if near:
            found[place] = max(near, key=lambda one: one.parts)
    return found


def head_of(one: Folded) -> str:
    """What is kept of a question; "" where it is long, so that its text is read."""
    head = " ".join(similar.asked(one))
    return head if len(head) <= HEAD_CHARS else ""


def _compare_batch(waits: bool) -> list[UUID]:
    """One batch's prints and links in a transaction; one worker at a time."""
    with transaction.atomic():
        if not _lock(waits):
            return []
        fresh = list(_waiting().values_list("pk", "payload")[:BATCH])
        folded = [fold(payload) for _, payload in fresh]
        made = prints(folded)
        RecordPrint.objects.bulk_create(
            RecordPrint(
                record_id=pk, bands=list(one.bands), letters=one.letters, head=head_of(text)
            )
            for (pk, _), one, text in zip(fresh, made, folded, strict=True)
        )
        links = {}
        near = _near(folded, made, RecordPrint.objects.all(), [pk for pk, _ in fresh])
        for (pk, _), others in zip(fresh, near, strict=True):
            for one in others:
                links[max(pk, one.record_id), min(pk, one.record_id)] = one.parts
        gone = _withheld_since({pk for pk, _ in fresh} | {pk for pair in links for pk in pair})
        RecordPrint.objects.filter(record__in=gone).delete()
        links = {pair: parts for pair, parts in links.items() if gone.isdisjoint(pair)}
        NearLink.objects.bulk_create(
            (NearLink(record_id=a, other_id=b, parts=parts) for (a, b), parts in links.items()),
            ignore_conflicts=True,
        )
    return [pk for pk, _ in fresh]


def _waiting() -> QuerySet[Record]:
    known = RecordPrint.objects.filter(record=OuterRef("pk"))
    return Record.objects.exclude(state__in=WITHHELD).filter(~Exists(known)).order_by("id")


def _withheld_since(records: Iterable[UUID]) -> set[UUID]:
    """Those that were withheld while they were compared: nothing of their texts may stay. The
    others are locked, so that who withholds one from now on finds its print and forgets it."""
    rows = Record.objects.filter(pk__in=list(records)).select_for_update(no_key=True)
    states = rows.order_by("pk").values_list("pk", "state")
    return {pk for pk, state in states if state in WITHHELD}


def _lock(waits: bool) -> bool:
    take = "pg_advisory_xact_lock" if waits else "pg_try_advisory_xact_lock"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {take}(hashtextextended('near-duplicates', 0))")
        return waits or bool(cursor.fetchone()[0])


def _near(
    folded: Sequence[Folded],
    made: Sequence[Print],
    among: QuerySet[RecordPrint],
    own: Sequence[UUID | None] = (),
) -> list[list[Near]]:
    """What each of the texts nearly repeats. Prints and texts are read for all of them at once."""
    met = _met(made, among)
    candidates = [
        _candidates(text, one, met[place], own[place] if own else None)
        for place, (text, one) in enumerate(zip(folded, made, strict=True))
    ]
    wanted = {pk for some in candidates for pk in some}
    texts = {pk: fold(payload) for pk, payload in _payloads(wanted)}
    found = []
    for text, some in zip(folded, candidates, strict=True):
        scores = [(pk, similar.near(text, texts[pk])) for pk in some if pk in texts]
        found.append([Near(pk, max(1, int(score * WHOLE))) for pk, score in scores if score])
    return found


def _met(made: Sequence[Print], among: QuerySet[RecordPrint]) -> list[dict[UUID, _Met]]:
    """For each print those that share a band with it, at most MET_AT_ONCE for all together."""
    places: dict[int, list[int]] = defaultdict(list)
    for place, one in enumerate(made):
        for band in one.bands:
            places[band].append(place)
    found: list[dict[UUID, _Met]] = [{} for _ in made]
    if not places:
        return found
    # The earliest: the first of a cluster is what matters. Sorted here, since PostgreSQL would
    # walk the primary key for an ordered query instead of looking bands up; no more are held.
    rows = among.filter(bands__overlap=list(places)).values_list(
        "record_id", "head", "letters", "bands"
    )
    for pk, head, letters, bands in heapq.nsmallest(MET_AT_ONCE, rows.iterator(chunk_size=2_000)):
        met = (pk, similar.asking(head.split(" ")) if head else None, letters)
        for band in bands:
            for place in places.get(band, ()):
                found[place][pk] = met
    return found


def _candidates(text: Folded, one: Print, met: dict[UUID, _Met], own: UUID | None) -> list[UUID]:
    """Those that do not ask about something else, the earliest."""
    mine = similar.asking(similar.asked(text))
    same, kept = [], []
    # In the order in which they were met, which is that of their ids.
    for pk, other, letters in met.values():
        if pk == own:
            continue
        if letters == one.letters:
            same.append(pk)
        elif other is None or not mine.letters or not similar.ask_differently(mine, other):
            kept.append(pk)
    return [*same[:READ], *kept[:READ]]


def _payloads(wanted: Iterable[UUID]) -> Iterable[tuple[UUID, dict[str, Any]]]:
    rows = Record.objects.filter(pk__in=list(wanted)).exclude(state__in=WITHHELD)
    return rows.values_list("pk", "payload").iterator(chunk_size=500)
