"""The audit of an index as the attribute worker does it. This module brings torch."""

from __future__ import annotations

import logging
from uuid import UUID

from django.utils import timezone

from attribution import scorers, workers
from attribution.influence.audit import audit, draw
from attribution.influence.config import InfluenceConfig
from attribution.influence.errors import InfluenceError
from attribution.models import Index, IndexAudit
from attribution.services import audits
from attribution.services.audits import Finding

logger = logging.getLogger(__name__)

RECORDS = 16
GROUP_MAX = 256


def audit_index(index_id: UUID) -> IndexAudit:
    """Draw, compute again and publish. Raises InfluenceError where a file or record is damaged."""
    row = Index.objects.select_related("model__base_model", "model__run").get(pk=index_id)
    scorer = scorers.scorer_for(row, row.model)
    seed = audits.seed()
    records, group = draw(scorer, seed, RECORDS, GROUP_MAX)
    examples = {one.record_id: one for one in workers.examples_of(row.model, every=True)}
    found = audit(scorer, InfluenceConfig(), examples, records, group)
    finding = Finding(found.records, found.group, found.group_records, found.group_sum, found.holds)
    made = audits.publish(
        # Another may have taken its place in the meantime.
        index_id=index_id,
        root=row.root,
        found=finding,
        drawn_by=seed,
        at=timezone.now(),
    )
    if not found.holds:
        logger.error("index %s is not what its records give: audit %s", row.root, made.pk)
    return made


def audit_next() -> IndexAudit | None:
    """The one that waited longest, where any is due. One that cannot be audited, as its files are
    damaged or its records are others now, does not keep the rest waiting."""
    failed: list[UUID] = []
    while index := audits.due(at=timezone.now(), beside=failed):
        try:
            return audit_index(index.pk)
        except (InfluenceError, OSError) as error:
            logger.error("index %s cannot be audited: %s", index.root, error)
            failed.append(index.pk)
    return None
