"""Reading: records with their groups, receipts with everything that their page shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import UUID

from attribution.groups import Group
from datanets.models import Record, VersionRecord
from modelfactory.models import Model
from modelfactory.selectors import TrainingRecord, training_records


def grouped_training_records(model: Model) -> Iterator[tuple[TrainingRecord, Group]]:
    """The model's training records, each with who is paid for it.

    A record that stands in several of the run's versions counts for the first of them, as in
    training.
    """
    version_of: dict[UUID, UUID] = {}
    for run_version in model.run.run_versions.all():
        ids = VersionRecord.objects.filter(version=run_version.version_id).values_list(
            "record_id", flat=True
        )
        for record_id in ids.iterator(chunk_size=10_000):
            version_of.setdefault(record_id, run_version.version_id)
    for record in training_records(model.pk):
        version = version_of[record.record_id]
        yield record, Group(record.contributor_id, record.datanet_id, version)


def contributors_of_records(record_ids: Sequence[UUID]) -> dict[UUID, UUID]:
    return dict(
        Record.objects.filter(pk__in=record_ids).values_list("pk", "contributor_id")
    )
