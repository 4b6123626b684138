"""Reading clusters: which of some records repeat others, who is paid for them, what is shown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Q

from datanets.ingest.firsts import first_ones
from datanets.ingest.prints import cluster_hash
from datanets.models import Contribution, NearLink, Record, RecordPrint, RecordState
from datanets.services.origins import CHUNK, links_among, standings


@dataclass(frozen=True, slots=True)
class Payee:
    """Whose a record is: the contributor of its cluster's origin, and the cluster's hash."""

    contributor_id: UUID
    origin_id: UUID
    cluster: str


@dataclass(frozen=True, slots=True)
class NearOne:
    """A record that says nearly the same, as a reader may see it; `percent` of what both say."""

    record: Record
    percent: int
    is_origin: bool


def repeated_among(records: Collection[UUID]) -> dict[UUID, UUID]:
    """Which of the records repeat which other of them: of each cluster all but the first.

    The first is the origin where it is among them. Two that repeat one that is not among them are
    one as well.
    """
    standing = standings(records)
    order = {one.pk: one.order for one in standing}
    near = links_among(records)
    clusters: dict[UUID, list[UUID]] = defaultdict(list)
    for pk, origin in _origins(records).items():
        if pk in order:
            clusters[origin].append(pk)
    for members in clusters.values():
        first = min(members, key=order.__getitem__)
        near.setdefault(first, set()).update(members)
        for pk in members:
            near.setdefault(pk, set()).add(first)
    found = first_ones(standing, near, within_all=True)
    return {pk: first for pk, first in found.items() if pk != first}


def payees_of(records: Collection[UUID]) -> dict[UUID, Payee]:
    """Who is paid for each of the records.

    One that is accepted no more, but stands in a version, belongs to the origin that it repeats,
    or rejecting a copy after its version was published would pay for it.
    """
    origin = {pk: pk for pk in records} | _origins(records)
    alone = [pk for pk, first in origin.items() if pk == first]
    for pk, first in _origins_of_rejected(alone).items():
        origin[pk] = first
    firsts = dict[UUID, tuple[UUID, str]]()
    for some in _chunks(set(origin.values())):
        rows = Record.objects.filter(pk__in=some)
        for pk, contributor, digest in rows.values_list("pk", "contributor_id", "content_hash"):
            firsts[pk] = (contributor, digest)
    return {
        pk: Payee(firsts[first][0], first, cluster_hash(str(first), firsts[first][1]))
        for pk, first in origin.items()
    }


def near_to(record: Record, user: Any, *, limit: int = 5) -> list[NearOne]:
    """Records that say nearly the same: the origin first, then the nearest. Rejected and withheld
    ones are left out, and what the user may not see: that a private Datanet holds a text like this
    is a secret of that Datanet."""
    print_ = RecordPrint.objects.filter(record=record).first()
    origin = print_.origin_id if print_ else None
    links = NearLink.objects.filter(Q(record=record) | Q(other=record)).order_by("-parts")
    percents = {
        (one.other_id if one.record_id == record.pk else one.record_id): one.percent
        for one in links[:200]
    }
    found = (
        Record.objects.visible_to(user)
        .filter(pk__in=percents, state__in=[RecordState.ACCEPTED, RecordState.PENDING])
        .select_related("datanet", "contributor")
    )
    lines = [NearOne(one, percents[one.pk], one.pk == origin) for one in found]
    lines.sort(key=lambda one: (not one.is_origin, -one.percent, one.record.pk))
    return lines[:limit]


def role_of(record: Record, user: Any) -> tuple[str, int]:
    """("ORIGIN" or "COPY", records of its cluster that the user may see); ("", 0) where it belongs
    to none."""
    mine = RecordPrint.objects.filter(record=record).first()
    if mine is None or mine.origin_id is None:
        return "", 0
    role = "ORIGIN" if mine.origin_id == record.pk else "COPY"
    return role, Record.objects.visible_to(user).filter(print__origin=mine.origin_id).count()


def is_cut(record: Record) -> bool:
    """Whether more records share bands with it than it was compared with."""
    return RecordPrint.objects.filter(record=record, is_cut=True).exists()


def near_count(contribution: Contribution) -> int:
    """Records of the contribution that say nearly what another record says."""
    linked = Q(near_links__isnull=False) | Q(near_links_back__isnull=False)
    return contribution.records.filter(linked).distinct().count()


def _origins(records: Collection[UUID]) -> dict[UUID, UUID]:
    found: dict[UUID, UUID] = {}
    for some in _chunks(records):
        rows = RecordPrint.objects.filter(record__in=some, origin__isnull=False)
        found.update(rows.values_list("record_id", "origin_id"))
    return found


def _origins_of_rejected(records: Collection[UUID]) -> dict[UUID, UUID]:
    """For those that have no origin of their own: the first origin that they are near to."""
    rejected: list[UUID] = []
    for some in _chunks(records):
        rows = Record.objects.filter(pk__in=some).exclude(state=RecordState.ACCEPTED)
        rejected += rows.values_list("pk", flat=True)
    if not rejected:
        return {}
    near: dict[UUID, set[UUID]] = defaultdict(set)
    for some in _chunks(rejected):
        links = NearLink.objects.filter(Q(record__in=some) | Q(other__in=some))
        for a, b in links.values_list("record_id", "other_id"):
            near[a].add(b)
            near[b].add(a)
    others = {pk for pk, first in _origins(list(near)).items() if pk == first}
    known = {one.pk: one for one in standings([*others, *rejected])}
    found = {}
    for pk in rejected:
        firsts = [
            known[one]
            for one in near[pk] & others
            if one in known and pk in known and known[one].is_open_to(known[pk])
        ]
        if firsts:
            found[pk] = min(firsts, key=lambda each: each.order).pk
    return found


def _chunks(records: Collection[UUID]) -> list[list[UUID]]:
    listed = list(records)
    return [listed[at : at + CHUNK] for at in range(0, len(listed), CHUNK)]
