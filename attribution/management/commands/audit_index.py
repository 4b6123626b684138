"""`manage.py audit_index`: compute gradients of an index again, and publish what came out."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from attribution.influence.errors import InfluenceError
from attribution.models import Index


class Command(BaseCommand):
    help = "Computes the gradients of randomly drawn records of an index again, and publishes it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model", help="slug of the model")

    def handle(self, *args: Any, **options: Any) -> None:
        from attribution import auditing

        index = Index.objects.filter(model__slug=options["model"], state=Index.State.READY).first()
        if index is None:
            raise CommandError(f"There is no finished index of {options['model']}.", returncode=2)
        try:
            made = auditing.audit_index(index.pk)
        except InfluenceError as error:
            raise CommandError(str(error)) from error
        verdicts = made.body["records"].values()
        counted = {verdict: list(verdicts).count(verdict) for verdict in sorted(set(verdicts))}
        self.stdout.write(f"records: {counted}, sum of the group: {made.body['group_sum']}")
        if not made.holds:
            raise CommandError(f"The index is not what its records give: audit {made.pk}.")
