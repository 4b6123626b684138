"""How records that say nearly the same are known: prints, links, and who was first."""

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Q

from accounts.models.base import Entity
from datanets.models.records import Record

WHOLE = 1_000


class RecordPrint(models.Model):
    """A record's MinHash bands, and the origin of its cluster.

    `version`: of the way of comparing (`ingest.prints.VERSION`); an older one is made again.
    `is_cut`: it met more records than it was compared with. `is_settled`: False from a comparison
    until its `origin` was looked at.

    `head`: the folded words that ask, by which most candidates fall out before their texts are
    read. `origin`: of an accepted record the first accepted one that says the same, itself where
    it is the first; None for all others. `cluster_hash` names the cluster to people and receipts.
    """

    record = models.OneToOneField(
        Record, primary_key=True, on_delete=models.CASCADE, related_name="print"
    )
    bands = ArrayField(models.BigIntegerField())
    letters = models.CharField(max_length=64)
    head = models.TextField(blank=True, default="")
    version = models.PositiveSmallIntegerField(default=0)
    is_cut = models.BooleanField(default=False)
    is_settled = models.BooleanField(default=True)
    origin = models.ForeignKey(
        Record, null=True, blank=True, on_delete=models.PROTECT, related_name="cluster"
    )

    class Meta:
        indexes = [
            GinIndex(fields=["bands"], name="print_by_band"),
            models.Index(fields=["version", "record"], name="print_by_version"),
            models.Index(
                fields=["record"], condition=Q(is_settled=False), name="print_not_settled"
            ),
        ]
        triggers = [
            # Looked at when the transaction ends: a role passes on in more than one statement.
            pgtrigger.Trigger(
                name="origin_is_its_own",
                when=pgtrigger.After,
                operation=pgtrigger.Insert | pgtrigger.Update,
                timing=pgtrigger.Deferred,
                func="""
                IF EXISTS (
                    SELECT 1 FROM datanets_recordprint p
                    LEFT JOIN datanets_recordprint o ON o.record_id = p.origin_id
                    WHERE (p.record_id = NEW.record_id OR p.origin_id = NEW.record_id)
                    AND p.origin_id IS NOT NULL
                    AND o.origin_id IS DISTINCT FROM o.record_id
                ) THEN
                    RAISE EXCEPTION 'the origin of a record must be an origin itself'
                        USING ERRCODE = 'check_violation';
                END IF;
                RETURN NULL;
                """,
            )
        ]

    def __str__(self) -> str:
        return f"print of {self.record_id}"


class NearLink(Entity):
    """Two records that say nearly the same, whatever their states; `parts` of a thousand."""

    record = models.ForeignKey(Record, on_delete=models.CASCADE, related_name="near_links")
    other = models.ForeignKey(Record, on_delete=models.CASCADE, related_name="near_links_back")
    parts = models.PositiveSmallIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["record", "other"], name="near_link_once"),
            models.CheckConstraint(
                condition=Q(record__gt=F("other")), name="near_link_names_the_later_first"
            ),
            models.CheckConstraint(
                condition=Q(parts__gt=0) & Q(parts__lte=WHOLE), name="near_link_is_a_part"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.record_id} ~ {self.other_id}"

    @property
    def percent(self) -> int:
        """For a page."""
        return self.parts * 100 // WHOLE
