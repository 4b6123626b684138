"""Compare records again whose prints are of an older way of comparing."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from datanets.ingest.prints import VERSION
from datanets.services import near_duplicates


class Command(BaseCommand):
    help = (
        "Compare again, for near-duplicates, records that were compared by an older version. The "
        "ingest worker does it every five minutes by itself; this does it now. It may be stopped "
        "and goes on where it was."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        waiting = near_duplicates.stale().count()
        self.stdout.write(f"{waiting} prints are older than version {VERSION}.")
        done = near_duplicates.compare_all(waits=True)
        left = near_duplicates.stale().count()
        self.stdout.write(f"{done} records were compared, {left} prints are left.")
