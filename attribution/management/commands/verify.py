"""`manage.py verify RECEIPT`: a receipt against log, index and ledger, down to the wei."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Q

from attribution.models import ExactAudit, Receipt, Rescoring
from attribution.translog.checkpoint import NoteError, VerifierKey
from attribution.verification import verify_receipt

MARKS = {True: "ok  ", False: "FAIL", None: "-   "}


class Command(BaseCommand):
    help = "Checks a receipt against the log, the index and the ledger."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("receipt", help="id of the receipt, of its completion or of an audit")
        parser.add_argument("--key", help="the log's key (name+id+base64), known from elsewhere")
        parser.add_argument("--format", choices=["text", "json"], default="text")

    def handle(self, *args: Any, **options: Any) -> None:
        receipt = _find(options["receipt"])
        try:
            key = VerifierKey.parse(options["key"]) if options["key"] else None
        except NoteError as error:
            raise CommandError(f"--key: {error}", returncode=2) from error
        report = verify_receipt(receipt, key=key)
        if options["format"] == "json":
            checks = [asdict(check) for check in report.checks]
            value = {"receipt": str(receipt.pk), "holds": report.holds, "checks": checks}
            self.stdout.write(json.dumps(value))
        else:
            for check in report.checks:
                self.stdout.write(f"{MARKS[check.holds]} {check.name:<13} {check.detail}")
        what = "audit" if isinstance(receipt, ExactAudit) else "receipt"
        if not report.holds:
            raise CommandError(f"The {what} {receipt.pk} does not hold.")
        if options["format"] == "text":
            self.stdout.write(f"The {what} {receipt.pk} holds.")


def _find(text: str) -> Receipt | Rescoring | ExactAudit:
    try:
        wanted = UUID(text)
    except ValueError as error:
        raise CommandError(f"{text} is no id of a receipt.", returncode=2) from error
    receipt = (
        Receipt.objects.filter(Q(pk=wanted) | Q(completion_id=wanted)).first()
        or Rescoring.objects.filter(pk=wanted, state=Rescoring.State.DONE).first()
        or ExactAudit.objects.filter(pk=wanted, state=ExactAudit.State.DONE).first()
    )
    if receipt is None:
        raise CommandError(f"There is no receipt {text}.", returncode=2)
    return receipt
