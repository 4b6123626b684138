"""The nearest records of a question: in PostgreSQL by pgvector where it is, else here by numpy.

Both look at every vector that the asker may read, so both give the same records; the cost grows
with the records of one model (docs/decisions, "vectors in plain arrays").
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import numpy.typing as npt
from django.db import connection
from django.db.models import FloatField, QuerySet
from django.db.models.expressions import RawSQL

from accounts.models import User
from datanets.models import Record
from serving.models.retrieval import RecordVector, RetrievalIndex

Floats = npt.NDArray[np.float32]
CHUNK = 4_096


@dataclass(frozen=True, slots=True)
class Hit:
    """`distance` is 1 minus the cosine: 0 is the same direction."""

    record_id: UUID
    group: str
    distance: float


def has_pgvector() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'")
        return cursor.fetchone() is not None


def nearest(*, index: RetrievalIndex, vector: Floats, reader: User, most: int) -> list[Hit]:
    """The `most` nearest that `reader` may read and nobody withheld; the nearest first."""
    withheld = Record.objects.withheld().values("pk")
    rows = RecordVector.objects.filter(
        index=index, record__in=Record.objects.visible_to(reader).values("pk")
    ).exclude(record__in=withheld)
    by = _by_pgvector if has_pgvector() else _by_numpy
    return by(rows, vector, most)


def _by_pgvector(rows: QuerySet[RecordVector], vector: Floats, most: int) -> list[Hit]:
    text = "[" + ",".join(repr(float(one)) for one in vector) + "]"
    distance = RawSQL(
        '"serving_recordvector"."vector"::vector <=> %s::vector', [text], FloatField()
    )
    found = rows.annotate(distance=distance).order_by("distance", "record_id")[:most]
    return [Hit(*row) for row in found.values_list("record_id", "group", "distance")]


def _by_numpy(rows: QuerySet[RecordVector], vector: Floats, most: int) -> list[Hit]:
    best: list[Hit] = []
    chunk: list[tuple[UUID, str, list[float]]] = []

    def look() -> None:
        matrix = np.asarray([row[2] for row in chunk], np.float32)
        distances = 1 - matrix @ vector.astype(np.float32)
        hits = [Hit(row[0], row[1], float(one)) for row, one in zip(chunk, distances, strict=True)]
        best[:] = heapq.nsmallest(
            most, [*best, *hits], key=lambda hit: (hit.distance, hit.record_id)
        )
        chunk.clear()

    lines = rows.values_list("record_id", "group", "vector")
    for row in lines.iterator(chunk_size=CHUNK):
        chunk.append(row)
        if len(chunk) == CHUNK:
            look()
    if chunk:
        look()
    return best
