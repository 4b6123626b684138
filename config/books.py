"""Comparing the books each night and telling what came of it. Workers run it, never the web."""

import logging
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from accounts import audit, outbox
from accounts.models import User
from accounts.notifications import notify
from attribution.reconciliation import check_tree
from config.models import Reconciliation
from config.reconciliation import ChainNotReadable, check_chain, check_log
from ledger.reconciliation import STAKE_POOLS, Finding, check_ledger
from ledger.services.pools import note_solvency

logger = logging.getLogger(__name__)
TASK = "config.tasks.reconcile_books"
# UTC; when the fewest people wait for the database.
EACH_NIGHT_AT = time(2, 30)
# A chain that could not be read is asked again after this.
AGAIN_AFTER = timedelta(minutes=15)
LOCK = 0x626F_6F6B  # "book": one comparison at a time


@dataclass(frozen=True, slots=True)
class Comparison:
    """All findings on one snapshot; `problem` says what could not be read."""

    findings: list[Finding]
    problem: str

    @property
    def wrong(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.holds]

    @property
    def holds(self) -> bool:
        return not self.problem and not self.wrong


def compare() -> Comparison:
    """Compare ledger, log and chain on one snapshot, so that work under way is no difference."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        findings = [*check_ledger(), *check_log(), *check_tree()]
        try:
            return Comparison([*findings, *check_chain()], "")
        except ChainNotReadable as error:
            return Comparison(findings, str(error))


def reconcile(*, at: datetime) -> Reconciliation | None:
    """Compare, keep the result, and alarm staff where the books differ.

    None where another process compares right now.
    """
    if not _lock():
        return None
    try:
        comparison = compare()
        return _keep(comparison, at)
    finally:
        _unlock()


def reconcile_when_due(*, at: datetime) -> Reconciliation | None:
    """Compare once a night, and at once where a night was missed or the chain was not readable."""
    return reconcile(at=at) if is_due(at=at) else None


def is_due(*, at: datetime) -> bool:
    last = Reconciliation.objects.first()
    if last is None or last.created_at < _last_night(at):
        return True
    return bool(last.problem) and last.created_at <= at - AGAIN_AFTER


def queue() -> str:
    """The chain's worker may import web3 and no other; without a chain there is no such worker."""
    return "chain" if settings.CHAIN_ENABLED else "default"


def request_reconciliation(*, acting_user: User, at: datetime) -> None:
    """Have a worker compare now; asked twice before it begins, it compares once."""
    with transaction.atomic():
        outbox.enqueue(task=TASK, args=[], queue=queue(), at=at, key=TASK)
        audit.record(actor=acting_user, verb="house.reconcile_asked", target=acting_user, at=at)


def as_json(finding: Finding) -> dict[str, Any]:
    """Counts and wei are decimal strings, since they pass 2**53."""
    return {
        "name": finding.name,
        "expected": str(finding.expected),
        "found": str(finding.found),
        "difference": str(finding.difference),
        "holds": finding.holds,
        "detail": finding.detail,
    }


@transaction.atomic
def _keep(comparison: Comparison, at: datetime) -> Reconciliation:
    before = Reconciliation.objects.first()
    kept = Reconciliation.objects.create(
        holds=comparison.holds,
        problem=comparison.problem,
        findings=[as_json(finding) for finding in comparison.findings],
        created_at=at,
        ended_at=timezone.now(),
    )
    for finding in comparison.findings:
        if finding.name == STAKE_POOLS:
            # The staking page shows it; its app stands below this one.
            note_solvency(held=finding.found, expected=finding.expected, at=at)
    if comparison.wrong:
        logger.error("the books differ: %s", [finding.name for finding in comparison.wrong])
        audit.record(
            actor=None,
            verb="house.books_differ",
            target=kept,
            at=at,
            data={"findings": [finding.name for finding in comparison.wrong]},
        )
        # Told when it begins, and again each night that it lasts.
        if before is None or before.holds or before.created_at < _last_night(at):
            _alarm(comparison, at)
    return kept


def _alarm(comparison: Comparison, at: datetime) -> None:
    names = "; ".join(finding.name for finding in comparison.wrong)
    for person in User.objects.filter(is_staff=True, is_active=True):
        notify(
            user=person,
            kind="house.books_differ",
            url="/status/",
            at=at,
            title=f"The books differ in {len(comparison.wrong)} of {len(comparison.findings)}",
            body=f"{names}. Run manage.py reconcile for the wei, and look before more is paid out.",
        )


def _last_night(at: datetime) -> datetime:
    tonight = at.replace(
        hour=EACH_NIGHT_AT.hour, minute=EACH_NIGHT_AT.minute, second=0, microsecond=0
    )
    return tonight if tonight <= at else tonight - timedelta(days=1)


def _lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
        return bool(cursor.fetchone()[0])


def _unlock() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
