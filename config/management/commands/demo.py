"""`manage.py demo`: what `make demo` runs."""

import sys
from typing import Any

from django.core.management.base import BaseCommand

from config.embedded.demo import demo


class Command(BaseCommand):
    help = "Run everything on this machine with sample data until Ctrl-C."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        sys.exit(demo())
