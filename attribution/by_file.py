"""What became of a file: from its hash to records, versions, models, receipts and payments.

The file itself never has to leave its owner's machine: its SHA-256 is enough, since a contribution
keeps the one of the file that was uploaded. Everything goes through the visibility of the thing
itself, so whoever holds a copy of a file learns from it what is public, and no more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Sum

from attribution import learnt
from attribution.models import ContributorShare, RecordInfluence
from datanets.models import Contribution, Record, RecordState, Version
from modelfactory.models import Model

SHOWN_RECORDS = 10
SHOWN_SHARES = 50
# Without an account; the credits of treasuries have no contributor either.
NOBODY = UUID(int=0)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Brought:
    """A contribution that was made of the file, as a reader may see it."""

    contribution: Contribution
    is_open: bool
    states: list[tuple[RecordState, int]]
    count: int
    records: list[Record]


@dataclass(frozen=True)
class FileReport:
    """`shares` are credits of the reader alone; `earned` is wei that the reader kept of them.

    Shares are by contributor and Datanet, so a receipt counts here where its model learnt from a
    version that holds records of the file; `names_a_record` tells those that name one of them.
    """

    sha256: str
    brought: list[Brought]
    versions: list[Version]
    models: list[Model]
    shares: list[ContributorShare]
    share_count: int
    named_count: int
    earned: int

    @property
    def record_count(self) -> int:
        return sum(one.count for one in self.brought)


def clean_sha256(text: str) -> str:
    """The hash in lower case, out of what a person pasted; "" where it is none."""
    words = text.strip().lower().split()
    # `sha256sum` prints the name of the file after the hash.
    return words[0] if words and _SHA256.fullmatch(words[0]) else ""


def report_of(sha256: str, user: Any) -> FileReport | None:
    """What `user` may see of what became of the file; None where that is nothing."""
    records = Record.objects.visible_to(user).filter(contribution__file=sha256)
    own = Contribution.objects.visible_to(user)
    found = (
        Contribution.objects.filter(file=sha256)
        .filter(Q(pk__in=own.values("pk")) | Q(pk__in=records.values("contribution")))
        .exclude(state="DISCARDED")
        .annotate(is_open=Exists(own.filter(pk=OuterRef("pk"))))
        .select_related("datanet", "submitter")
        .order_by("id")
    )
    brought = [_brought(one, records.filter(contribution=one)) for one in found]
    if not brought:
        return None
    versions = _versions(records, user)
    models = learnt.learnt_from(version.pk for version in versions)
    shares = _shares(records, models, user)
    kept = shares.aggregate(amount=Sum("amount"), passed_on=Sum("passed_on"))
    return FileReport(
        sha256=sha256,
        brought=brought,
        versions=versions,
        models=list(Model.objects.visible_to(user).filter(pk__in=models).order_by("-id")),
        shares=list(shares[:SHOWN_SHARES]),
        share_count=shares.count(),
        named_count=shares.filter(Q(names_a_record=True)).count(),
        earned=int(kept["amount"] or 0) - int(kept["passed_on"] or 0),
    )


def _brought(contribution: Any, records: QuerySet[Record]) -> Brought:
    counted = dict(records.order_by().values_list("state").annotate(count=Count("pk")))
    return Brought(
        contribution=contribution,
        is_open=contribution.is_open,
        states=[(state, counted[state]) for state in RecordState if state in counted],
        count=sum(counted.values()),
        records=list(records.order_by("row")[:SHOWN_RECORDS]),
    )


def _versions(records: QuerySet[Record], user: Any) -> list[Version]:
    """Versions that hold records of the file, with `held`: how many."""
    held = Count("entries", filter=Q(entries__record__in=records.values("pk")))
    return list(
        Version.objects.visible_to(user)
        .filter(pk__in=records.order_by().values("version_entries__version"))
        .annotate(held=held)
        .select_related("datanet")
        .order_by("datanet__name", "number")
    )


def _shares(records: QuerySet[Record], models: set[UUID], user: Any) -> QuerySet[ContributorShare]:
    """The reader's own credits by those models in the records' Datanets, newest first."""
    reader = user.pk or NOBODY
    mine = records.filter(contributor=reader).order_by()
    named = RecordInfluence.objects.filter(
        receipt=OuterRef("receipt"), record__in=mine.values("pk")
    )
    return (
        ContributorShare.objects.filter(
            Q(receipt__model__in=models) | Q(model__in=models),
            contributor=reader,
            datanet__in=mine.values("datanet"),
        )
        .annotate(names_a_record=Exists(named))
        .select_related("model", "receipt__model", "datanet")
        .order_by("-id")
    )
