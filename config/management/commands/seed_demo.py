"""Logins and sample data; with --continue the part that needs running workers."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from config.sample.foundation import seed_foundation
from config.sample.people import LOGINS, PASSWORD


class Command(BaseCommand):
    help = "Make the demo's logins and sample Datanets; a second call makes what is missing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--continue",
            action="store_true",
            dest="go_on",
            help="with running workers: publish a version, train, deploy, answer and pay out",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["go_on"]:
            self._go_on()
            return
        for line in seed_foundation(at=timezone.now()):
            self.stdout.write(f"made {line}")
        self.stdout.write(f"The password of every login is {PASSWORD}")
        for login in LOGINS:
            self.stdout.write(f"  {login.email}  {login.what}")

    def _go_on(self) -> None:
        from config.sample.going_on import go_on
        from config.tour.journey import StepFailed

        try:
            go_on(tell=self._tell)
        except StepFailed as error:
            raise CommandError(str(error)) from error

    def _tell(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
