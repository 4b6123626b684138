"""Lets an intent go out that moves more than the caps let out by themselves."""

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from ledger.errors import LedgerError
from ledger.selectors import intents_held_by_caps
from ledger.services.caps import lift_cap
from ledger.words import open_text


class Command(BaseCommand):
    help = "Say which intents the caps hold back; with an INTENT and --note, let that one go out."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("intent", nargs="?", type=UUID, help="the intent's id")
        parser.add_argument("--note", default="", help="Why; it is kept in the audit.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["intent"] is None:
            self._list()
            return
        note = options["note"].strip()
        if not note:
            raise CommandError("Write why it is right that this goes out: --note '…'.")
        try:
            intent = lift_cap(
                intent_id=options["intent"], acting_user=None, note=note, at=timezone.now()
            )
        except LedgerError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"Lifted: {open_text(intent.outflow)} OPEN go out with the next step.")

    def _list(self) -> None:
        held = intents_held_by_caps()
        for intent in held:
            self.stdout.write(
                f"{intent.pk}  {intent.get_kind_display()}: {open_text(intent.outflow)} OPEN, over "
                f"the cap of {open_text(intent.held_by_cap)}"
            )
        if not held:
            self.stdout.write("The caps hold nothing back.")
