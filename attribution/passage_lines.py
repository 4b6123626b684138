"""The passages of an answer as a party of its receipt may see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from accounts.models import User
from attribution.models import Passage, PassageRecord, Receipt, SpanIndex
from datanets.models import Datanet, Record, Version
from modelfactory.lineage import lineage_versions
from modelfactory.models import Model


@dataclass(frozen=True)
class PassageSource:
    """A record that a passage stands in, as a reader may see it."""

    record: Record
    contributor: User
    readable: bool
    datanet: Datanet | None


@dataclass(frozen=True)
class PassageLine:
    """A passage with its records; the text is empty for who may read neither answer nor record."""

    passage: Passage
    text: str
    sources: list[PassageSource]


@dataclass(frozen=True)
class Passages:
    """`state`: FOUND, NONE (looked for, none stands there now), MISSING (a version's index was
    not there to look in) or OLD (a receipt of before they were looked for)."""

    state: str
    lines: list[PassageLine]
    min_tokens: int
    answer_is_readable: bool


def span_indexes_of(model: Model, user: Any) -> list[SpanIndex]:
    """The span indexes that the model's answers are looked up in, of versions that `user` sees."""
    versions = [version.pk for version in lineage_versions(model.run)]
    return list(
        SpanIndex.objects.filter(base_model=model.base_model_id, version__in=versions)
        .filter(version__in=Version.objects.visible_to(user).values("pk"))
        .select_related("version__datanet")
        .order_by("version__datanet__name", "version__number")
    )


def passages_of(receipt: Receipt, user: Any) -> Passages:
    """The passages of the answer that still stand in records, for a party of the receipt."""
    method = receipt.public.get("spans")
    rows = list(receipt.passages.standing())
    sources = _sources(rows, user)
    reads_answer = receipt.payer_id == user.pk
    lines = [
        PassageLine(
            passage=row,
            text=row.text if reads_answer or any(one.readable for one in sources[row.pk]) else "",
            sources=sources[row.pk],
        )
        for row in rows
    ]
    state = "OLD" if method is None else "MISSING" if method["missing"] else "NONE"
    return Passages(
        state="FOUND" if lines else state,
        lines=lines,
        min_tokens=method["parameters"]["min_tokens"] if method else 0,
        answer_is_readable=reads_answer,
    )


def _sources(passages: Sequence[Passage], user: Any) -> dict[UUID, list[PassageSource]]:
    """The records of each passage, less those that were withdrawn or taken down."""
    rows = (
        PassageRecord.objects.standing()
        .filter(passage__in=passages)
        .select_related("record", "contributor")
    )
    visible = set(
        Record.objects.visible_to(user)
        .filter(pk__in=[row.record_id for row in rows])
        .values_list("pk", flat=True)
    )
    datanets = Datanet.objects.visible_to(user).in_bulk({row.record.datanet_id for row in rows})
    found: dict[UUID, list[PassageSource]] = {passage.pk: [] for passage in passages}
    for row in rows:
        found[row.passage_id].append(
            PassageSource(
                record=row.record,
                contributor=row.contributor,
                readable=row.record_id in visible,
                datanet=datanets.get(row.record.datanet_id),
            )
        )
    return found
