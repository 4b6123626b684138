"""Proves that ledger, chain and log say the same, or prints the difference to the wei."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, transaction

from attribution.reconciliation import check_tree
from config.reconciliation import ChainNotReadable, check_chain, check_log
from ledger.reconciliation import Finding, check_ledger
from ledger.words import open_text


class Command(BaseCommand):
    help = "Compare ledger, contracts and log; exits with 1 where they differ."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--format", choices=["text", "json"], default="text")

    def handle(self, *args: Any, **options: Any) -> None:
        findings, problem = _findings()
        if options["format"] == "json":
            self.stdout.write(json.dumps(_as_json(findings, problem), indent=1))
        else:
            for finding in findings:
                self.stdout.write(_line(finding))
            if problem:
                self.stdout.write(f"NOT READ  chain: {problem}")
        wrong = [finding for finding in findings if not finding.holds]
        if wrong or problem:
            raise CommandError(
                f"{len(wrong)} of {len(findings)} comparisons differ"
                + (", and the chain could not be read." if problem else ".")
            )


def _findings() -> tuple[list[Finding], str]:
    """All comparisons on one snapshot, so that work under way is no difference."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        findings = [*check_ledger(), *check_log(), *check_tree()]
        try:
            return [*findings, *check_chain()], ""
        except ChainNotReadable as error:
            return findings, str(error)


def _line(finding: Finding) -> str:
    rows = finding.name.endswith("(rows)")
    expected = str(finding.expected) if rows else f"{open_text(finding.expected)} OPEN"
    if finding.holds:
        return f"equal     {finding.name}: {expected}"
    unit = "rows" if rows else "wei"
    more = f"; for example {finding.detail}" if finding.detail else ""
    return f"DIFFERENT {finding.name}: {expected}, off by {finding.difference:+d} {unit}{more}"


def _as_json(findings: list[Finding], problem: str) -> dict[str, Any]:
    return {
        "holds": not problem and all(finding.holds for finding in findings),
        "problem": problem,
        "findings": [
            {
                "name": finding.name,
                "expected": str(finding.expected),
                "found": str(finding.found),
                "difference": str(finding.difference),
                "holds": finding.holds,
                "detail": finding.detail,
            }
            for finding in findings
        ],
    }
