"""What is up, what is missing, what to do."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from config.doctor import Finding, examine


class Command(BaseCommand):
    help = "Say what is up, what is missing and what to do; exit 1 where something is missing."
    # It must speak where the checks themselves would fail.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--format", choices=["text", "json"], default="text")

    def handle(self, *args: Any, **options: Any) -> None:
        findings = []
        for finding in examine(at=timezone.now()):
            findings.append(finding)
            if options["format"] == "text":
                self._show(finding)
        if options["format"] == "json":
            self.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=1))
        missing = sum(not finding.well for finding in findings)
        if missing:
            raise CommandError(f"{missing} of {len(findings)} need something.")

    def _show(self, finding: Finding) -> None:
        mark = self.style.SUCCESS("ok     ") if finding.well else self.style.ERROR("missing")
        self.stdout.write(f"{mark}  {finding.name:<17} {finding.fact}")
        if finding.what_to_do:
            self.stdout.write(f"         {'':<17} → {finding.what_to_do}")
