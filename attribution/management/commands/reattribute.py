"""`manage.py reattribute`: try failed indexes and attributions again."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from attribution.models import Attribution, Index, SpanIndex
from attribution.services import indexes, receipts, span_indexes


class Command(BaseCommand):
    help = "Puts failed index builds and attributions back to work, all or those of one model."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--model", help="slug of the model")

    def handle(self, *args: Any, **options: Any) -> None:
        at = timezone.now()
        failed = Index.objects.filter(state=Index.State.FAILED)
        stuck = Attribution.objects.filter(state=Attribution.State.FAILED)
        if options["model"]:
            failed = failed.filter(model__slug=options["model"])
            stuck = stuck.filter(model__slug=options["model"])
        for row in SpanIndex.objects.filter(state=SpanIndex.State.FAILED):
            span_indexes.try_again(index_id=row.pk, at=at)
        rebuilt = [
            indexes.request_index(model_id=index.model_id, acting_user=None, at=at)
            for index in failed
        ]
        retried = [receipts.try_again(attribution_id=one.pk, at=at) for one in stuck]
        self.stdout.write(f"{len(rebuilt)} indexes and {sum(retried)} attributions go on.")
