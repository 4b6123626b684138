"""Who is first among the records of the database, kept true when a record's state changes.

The order is `datanets.ingest.firsts`. A record is committed when it was submitted and its Datanet
is published: until then it is first in its own Datanet alone, or a private one could claim what
others publish. A record that is not accepted is nobody's origin.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, Q

from datanets.ingest.firsts import Standing, first_ones
from datanets.models import Datanet, DatanetState, NearLink, Record, RecordPrint, RecordState

CHUNK = 5_000
OVERDUE = 10_000


def refresh(records: Collection[UUID]) -> None:
    """Find anew who is first, for these records and for all whose clusters they are in.

    Call it in the transaction that changes a record's state or its Datanet's.
    """
    if not records:
        return
    with transaction.atomic():
        _lock()
        linked: set[UUID] = set()
        for some in _chunks(records):
            links = NearLink.objects.filter(Q(record__in=some) | Q(other__in=some))
            pairs = {pk for pair in links.values_list("record_id", "other_id") for pk in pair}
            linked |= pairs & set(some)
            _stand_alone([pk for pk in some if pk not in linked])
        if linked:
            _refresh_linked(linked)
        for some in _chunks(records):
            compared = RecordPrint.objects.filter(record__in=some, is_settled=False)
            compared.update(is_settled=True)


def refresh_datanet(datanet: Datanet) -> None:
    """The same for a whole Datanet that was published or taken down."""
    if datanet.state == DatanetState.TAKEN_DOWN:
        refresh(list(datanet.records.filter(print__isnull=False).values_list("pk", flat=True)))
        return
    linked = datanet.records.filter(Q(near_links__isnull=False) | Q(near_links_back__isnull=False))
    refresh(list(linked.distinct().values_list("pk", flat=True)))


def forget(record: Record) -> None:
    """The text is withheld: its print and its links go, its role passes on."""
    with transaction.atomic():
        _lock()
        near = NearLink.objects.filter(Q(record=record) | Q(other=record))
        others = {pk for pair in near.values_list("record_id", "other_id") for pk in pair}
        near.delete()
        others.discard(record.pk)
        followers = RecordPrint.objects.filter(origin=record).exclude(record=record)
        others.update(followers.values_list("record_id", flat=True))
        followers.update(origin=None)
        RecordPrint.objects.filter(record=record).delete()
        # Who was compared with the earliest alone may repeat others, now that one of these is gone:
        # or whoever withdraws the first copies would be paid for each of the rest.
        RecordPrint.objects.filter(record__in=others, is_cut=True).update(version=0)
        refresh(others)


def overdue() -> list[UUID]:
    """Accepted records that were compared and belong to no cluster yet, and records whose role was
    not looked at since they were compared."""
    compared = RecordPrint.objects.filter(is_settled=False)
    found = RecordPrint.objects.filter(origin=None, record__state=RecordState.ACCEPTED).exclude(
        record__datanet__state=DatanetState.TAKEN_DOWN
    )
    return [
        *compared.values_list("record_id", flat=True)[:OVERDUE],
        *found.values_list("record_id", flat=True)[:OVERDUE],
    ]


def standings(records: Iterable[UUID]) -> list[Standing[UUID]]:
    """Those of the records that are not withheld."""
    rows = Record.objects.exclude(pk__in=Record.objects.withheld().values("pk"))
    found = []
    for some in _chunks(list(records)):
        values = rows.filter(pk__in=some).values_list(
            "pk", "datanet_id", "created_at", "datanet__state", "datanet__published_at", "state"
        )
        found += [
            Standing(
                pk,
                datanet,
                at,
                (published or at) if state == DatanetState.PUBLISHED else None,
                mine == RecordState.ACCEPTED,
            )
            for pk, datanet, at, state, published, mine in values
        ]
    return found


def links_among(records: Collection[UUID]) -> dict[UUID, set[UUID]]:
    """What says nearly the same among the records, both ways."""
    wanted, near = set(records), defaultdict(set)
    for some in _chunks(records):
        rows = NearLink.objects.filter(record__in=some).values_list("record_id", "other_id")
        for a, b in rows:
            if b in wanted:
                near[a].add(b)
                near[b].add(a)
    return near


def _refresh_linked(touched: Collection[UUID]) -> None:
    """All that can change with the touched records: what they reach over accepted ones."""
    near: dict[UUID, set[UUID]] = defaultdict(set)
    known: dict[UUID, Standing[UUID]] = {}
    reached, frontier = set(touched), set(touched)
    while frontier:
        fresh = {one.pk: one for one in standings(frontier) if one.is_accepted}
        known |= fresh
        # A touched record that is accepted no more was its neighbours' origin perhaps.
        going = [pk for pk in frontier if pk in fresh or pk in touched]
        frontier = set()
        for some in _chunks(going):
            rows = NearLink.objects.filter(Q(record__in=some) | Q(other__in=some))
            for a, b in rows.values_list("record_id", "other_id"):
                near[a].add(b)
                near[b].add(a)
                frontier |= {a, b} - reached
        reached |= frontier
    origin = first_ones(known.values(), near)
    prints = list(RecordPrint.objects.filter(record__in=reached))
    changed = []
    for one in prints:
        if one.origin_id != origin.get(one.record_id):
            one.origin_id = origin.get(one.record_id)
            changed.append(one)
    RecordPrint.objects.bulk_update(changed, ["origin"], batch_size=1_000)


def _stand_alone(records: list[UUID]) -> None:
    mine = RecordPrint.objects.filter(record__in=records)
    gone = Q(record__datanet__state=DatanetState.TAKEN_DOWN)
    accepted = mine.filter(record__state=RecordState.ACCEPTED).exclude(gone)
    accepted.exclude(origin=F("record")).update(origin=F("record"))
    RecordPrint.objects.filter(record__in=records, origin__isnull=False).exclude(
        record__in=accepted.values("record")
    ).update(origin=None)


def _lock() -> None:
    """One change of roles at a time: two that are accepted at once must see each other."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('origins', 0))")


def _chunks(records: Collection[UUID]) -> Iterable[list[UUID]]:
    listed = list(records)
    for start in range(0, len(listed), CHUNK):
        yield listed[start : start + CHUNK]
