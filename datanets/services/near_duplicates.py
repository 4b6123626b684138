"""Which records say nearly the same: compared by the ingest worker, a batch at a time.

A comparison looks at texts alone, so it is made once for a record, whatever becomes of it, and
again where the way of comparing has changed since (`prints.VERSION`) or where what it was compared
with is gone. Who is the first of a cluster follows from the records' states, see origins.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from accounts import outbox
from datanets.ingest.folding import Folded, fold
from datanets.ingest.prints import VERSION, Print, prints
from datanets.models import Datanet, DatanetState, NearLink, Record, RecordPrint, RecordState
from datanets.models.records import WITHHELD
from datanets.services import origins
from datanets.services.near_search import Found, Near, head_of, parts_of, payloads, search

TASK = "datanets.tasks.compare_records"
BATCH = 200
# Links that are decided again together, whose texts are held in memory.
PAIRS = 256

Pair = tuple[UUID, UUID]  # of a link: the later record first


def request_comparison(*, at: datetime) -> None:
    """Have a worker compare what was not compared yet."""
    outbox.enqueue(task=TASK, args=[], queue="ingest", at=at, key="near-duplicates")


def compare_all(*, waits: bool = False) -> int:
    """Compare every record that was not, or not as it is done now, in the order of ids; return how
    many. Where another worker is at it, leave it to that one, or with `waits` go on once it has
    done a batch. It may be stopped at any time and goes on where it was."""
    done = 0
    while batch := _compare_batch(waits):
        compared, touched = batch
        origins.refresh(touched)
        done += len(compared)
    # Where a worker died between the two steps, or a verdict came between them.
    origins.refresh(origins.overdue())
    return done


def stale() -> QuerySet[RecordPrint]:
    """Prints that are to be made again."""
    return RecordPrint.objects.filter(version__lt=VERSION)


def near_in(datanet: Datanet, records: Sequence[Folded]) -> dict[int, Near]:
    """Of texts that are not records yet, those that say nearly what one of the Datanet's or of the
    public ones does, by their place; the nearest each."""
    public = Q(record__state=RecordState.ACCEPTED, record__datanet__state=DatanetState.PUBLISHED)
    among = RecordPrint.objects.filter(Q(record__datanet=datanet) | public)
    return {
        place: max(found.near, key=lambda one: one.parts)
        for place, found in enumerate(search(records, prints(records), among))
        if found.near
    }


def _compare_batch(waits: bool) -> tuple[list[UUID], set[UUID]] | None:
    """One batch's prints and links in a transaction; one worker at a time. Returns the records and
    all whose role may change by it, None where there is nothing to do."""
    with transaction.atomic():
        if not _lock(waits):
            return None
        rows = list(_waiting().values_list("pk", "payload")[:BATCH])
        is_fresh = bool(rows)
        if not is_fresh:
            old = stale().order_by("record_id").values_list("record_id", "record__payload")
            rows = list(old[:BATCH])
        if not rows:
            return None
        own = [pk for pk, _ in rows]
        folded = [fold(payload) for _, payload in rows]
        made = prints(folded)
        found = search(folded, made, RecordPrint.objects.all(), own)
        links = {
            (max(pk, near.record_id), min(pk, near.record_id)): near.parts
            for pk, one in zip(own, found, strict=True)
            for near in one.near
        }
        again = {} if is_fresh else _decide_again(own, links)
        gone = _withheld_since({*own, *(pk for pair in [*links, *again] for pk in pair)})
        _write_prints(own, folded, made, found, gone, is_fresh=is_fresh)
        touched = set(own) | _write_links(links | again, gone)
        RecordPrint.objects.filter(record__in=touched).update(is_settled=False)
    return own, touched


def _decide_again(own: Sequence[UUID], links: dict[Pair, int]) -> dict[Pair, int]:
    """The links that stood before, by the verdict of now, but those that were just found. One to a
    record whose print is old as well is decided when that one is made again."""
    current = RecordPrint.objects.filter(Q(version__gte=VERSION) | Q(record__in=own))
    ours = NearLink.objects.filter(Q(record__in=own) | Q(other__in=own))
    stood = ours.filter(
        Exists(current.filter(record=OuterRef("record_id"))),
        Exists(current.filter(record=OuterRef("other_id"))),
    )
    pairs = [pair for pair in stood.values_list("record_id", "other_id") if pair not in links]
    found = {}
    for start in range(0, len(pairs), PAIRS):
        some = pairs[start : start + PAIRS]
        texts = {
            pk: fold(payload) for pk, payload in payloads({pk for pair in some for pk in pair})
        }
        for a, b in some:
            if a in texts and b in texts:
                found[a, b] = parts_of(texts[a], texts[b])
    return found


def _write_prints(
    own: Sequence[UUID],
    folded: Sequence[Folded],
    made: Sequence[Print],
    found: Sequence[Found],
    gone: set[UUID],
    *,
    is_fresh: bool,
) -> None:
    fields: list[tuple[UUID, dict[str, Any]]] = [
        (
            pk,
            {
                "bands": list(one.bands),
                "letters": one.letters,
                "head": head_of(text),
                "version": VERSION,
                "is_cut": near.is_cut,
            },
        )
        for pk, text, one, near in zip(own, folded, made, found, strict=True)
        if pk not in gone
    ]
    if is_fresh:
        RecordPrint.objects.bulk_create(
            RecordPrint(record_id=pk, **values) for pk, values in fields
        )
        return
    for pk, values in fields:
        # One that its owner withdrew meanwhile has none, and gets none.
        RecordPrint.objects.filter(record=pk).update(**values)


def _write_links(links: dict[Pair, int], gone: set[UUID]) -> set[UUID]:
    """Write down what was decided; return whose links went."""
    kept = {pair: parts for pair, parts in links.items() if parts and gone.isdisjoint(pair)}
    NearLink.objects.bulk_create(
        (NearLink(record_id=a, other_id=b, parts=parts) for (a, b), parts in kept.items()),
        update_conflicts=True,
        unique_fields=["record", "other"],
        update_fields=["parts"],
    )
    wrong = [pair for pair, parts in links.items() if not parts]
    for start in range(0, len(wrong), PAIRS):
        some = set(wrong[start : start + PAIRS])
        rows = NearLink.objects.filter(record__in={a for a, _ in some})
        going = rows.values_list("pk", "record_id", "other_id")
        NearLink.objects.filter(pk__in=[pk for pk, a, b in going if (a, b) in some]).delete()
    return {pk for pair in wrong for pk in pair}


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
