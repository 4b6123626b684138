"""Proves that ledger, chain and log say the same, or prints the difference to the wei."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.books import Comparison, as_json, compare
from ledger.reconciliation import Finding
from ledger.words import open_text


class Command(BaseCommand):
    help = "Compare ledger, contracts and log; exits with 1 where they differ."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--format", choices=["text", "json"], default="text")

    def handle(self, *args: Any, **options: Any) -> None:
        comparison = compare()
        if options["format"] == "json":
            self.stdout.write(json.dumps(_as_json(comparison), indent=1))
        else:
            for finding in comparison.findings:
                self.stdout.write(_line(finding))
            if comparison.problem:
                self.stdout.write(f"NOT READ  chain: {comparison.problem}")
        if not comparison.holds:
            raise CommandError(
                f"{len(comparison.wrong)} of {len(comparison.findings)} comparisons differ"
                + (", and the chain could not be read." if comparison.problem else ".")
            )


def _line(finding: Finding) -> str:
    rows = finding.name.endswith("(rows)")
    expected = str(finding.expected) if rows else f"{open_text(finding.expected)} OPEN"
    if finding.holds:
        return f"equal     {finding.name}: {expected}"
    unit = "rows" if rows else "wei"
    more = f"; for example {finding.detail}" if finding.detail else ""
    return f"DIFFERENT {finding.name}: {expected}, off by {finding.difference:+d} {unit}{more}"


def _as_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "holds": comparison.holds,
        "problem": comparison.problem,
        "findings": [as_json(finding) for finding in comparison.findings],
    }
