"""Lets the mirror and the sender of the chain go on after staff have looked."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from ledger.errors import LedgerError
from ledger.models import ChainHead
from ledger.services.halting import lift_halt


class Command(BaseCommand):
    help = (
        "Say why the chain is halted; with --note, go on from the last block that it shares with "
        "the mirror: what hung on the blocks above is undone."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--note", default="", help="What you found; it is kept in the audit.")

    def handle(self, *args: Any, **options: Any) -> None:
        head = ChainHead.objects.filter(chain_id=settings.CHAIN_ID).first()
        if head is None or head.halted_at is None:
            raise CommandError("The chain is not halted; there is nothing to lift.")
        if not options["note"].strip():
            raise CommandError(
                f"{head.halt_reason} Compare with the node (`manage.py reconcile`), then run this "
                "again with --note and what you found."
            )
        try:
            lifted = lift_halt(
                chain_id=settings.CHAIN_ID,
                acting_user=None,
                note=options["note"].strip(),
                at=timezone.now(),
            )
        except LedgerError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"Lifted: the mirror goes back to block {lifted.final_number}.")
