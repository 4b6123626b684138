"""`manage.py reattribute`: try failed indexes and attributions again."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from attribution.services.trying_again import try_all_again
from modelfactory.models import Model


class Command(BaseCommand):
    help = "Puts failed index builds and attributions back to work, all or those of one model."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--model", help="slug of the model")

    def handle(self, *args: Any, **options: Any) -> None:
        model = None
        if slug := options["model"]:
            model = Model.objects.filter(slug=slug).first()
            if model is None:
                raise CommandError(f"There is no model {slug}.", returncode=2)
        tried = try_all_again(acting_user=None, at=timezone.now(), model=model)
        self.stdout.write(f"{tried.indexes} indexes and {tried.attributions} attributions go on.")
