"""Reading: the records that models learnt from, each with who is paid for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from uuid import UUID

from django.db.models import Count

from attribution.groups import Group
from datanets import clusters
from datanets.models import Record, VersionRecord
from ledger.royalties import DEEPEST
from modelfactory.lineage import lineage_versions
from modelfactory.models import Model
from modelfactory.selectors import TrainingRecord, training_records


def grouped_training_records(
    model: Model, *, every: bool = False
) -> Iterator[tuple[TrainingRecord, Group]]:
    """The model's training records, each with who is paid for it.

    A record that stands in several of the run's versions counts for the first of them, as in
    training; those of the models that it was made from come after its own. Records that were
    withdrawn or taken down since are left out. Of a cluster of near-duplicates one record counts,
    and pays the contributor of the cluster's origin, in the name of the Datanet and version by
    which it came into the model. `every` record, copies too, is for indexes of before and those
    whose clusters have changed since.
    """
    gone = withheld_from(model)
    version_of: dict[UUID, UUID] = {}
    for learnt in lineage_versions(model.run):
        ids = VersionRecord.objects.filter(version=learnt.pk).values_list("record_id", flat=True)
        for record_id in ids.iterator(chunk_size=10_000):
            version_of.setdefault(record_id, learnt.pk)
    payees = clusters.payees_of(list(version_of))
    counted: set[UUID] = set()
    for record in training_records(model.pk):
        payee = payees[record.record_id]
        is_new = every or payee.origin_id not in counted
        if record.record_id not in gone and is_new:
            counted.add(payee.origin_id)
            version = version_of[record.record_id]
            yield record, Group(payee.contributor_id, record.datanet_id, version)


def withheld_from(model: Model) -> set[UUID]:
    """Records of the versions that the model learnt from that were withdrawn or taken down."""
    gone = Record.objects.withheld().filter(
        version_entries__version__in=lineage_versions(model.run)
    )
    return set(gone.order_by().values_list("pk", flat=True))


def has_records(model: Model) -> bool:
    """Whether any record that the model learnt from may still be credited."""
    return next(grouped_training_records(model, every=True), None) is not None


def records_by_group(model: Model) -> dict[str, int]:
    """How many records each group has in the versions that the model learnt from, withdrawn ones
    too: by these the treasuries share where no record is left to credit."""
    rows = VersionRecord.objects.filter(version__in=lineage_versions(model.run)).order_by()
    counted = rows.values_list("record__contributor_id", "record__datanet_id", "version_id")
    return {
        str(Group(contributor, datanet, version)): count
        for contributor, datanet, version, count in counted.annotate(count=Count("pk"))
    }


def contributors_of_records(record_ids: Sequence[UUID]) -> dict[UUID, UUID]:
    return dict(Record.objects.filter(pk__in=record_ids).values_list("pk", "contributor_id"))


def learnt_from(version_ids: Iterable[UUID]) -> set[UUID]:
    """Models that were trained on one of the versions, and those that were made from them."""
    level = set(
        Model.objects.filter(run__run_versions__version__in=list(version_ids))
        .order_by()
        .values_list("pk", flat=True)
    )
    found: set[UUID] = set()
    for _ in range(DEEPEST):
        found |= level
        made = Model.objects.filter(run__parents__model__in=level).order_by()
        level = set(made.values_list("pk", flat=True)) - found
    return found
