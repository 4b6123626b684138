"""Keeping the totals of all time: what was written since the last time is added to them."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from attribution.models import CreditHorizon, CreditTotal, Receipt
from attribution.totals import KINDS, total_field, written_between
from ledger.models import Refund

# Rows carry the moment at which they were written, not at which they were committed: what is
# younger than any transaction lasts is left for the next time.
LAG = timedelta(minutes=10)
# Receipts that are added up in one transaction.
STEP = 20_000


def add_up(*, at: datetime) -> int:
    """Bring the totals up to `at` less LAG, a step to a transaction; return how many steps."""
    steps = 0
    while _step(at - LAG):
        steps += 1
    return steps


@transaction.atomic
def _step(latest: datetime) -> bool:
    CreditHorizon.objects.get_or_create(pk=1)
    horizon = CreditHorizon.objects.select_for_update().get(pk=1)
    until = _end_of_step(horizon.until, latest)
    if until is None:
        return False
    for kind in KINDS:
        _add(kind, horizon.until, until)
    horizon.until = until
    horizon.save(update_fields=["until"])
    return True


def _end_of_step(after: datetime | None, latest: datetime) -> datetime | None:
    """None where nothing was written meanwhile."""
    receipts = Receipt.objects.filter(created_at__lte=latest)
    refunds = Refund.objects.filter(created_at__lte=latest)
    if after is not None:
        receipts = receipts.filter(created_at__gt=after)
        refunds = refunds.filter(created_at__gt=after)
    moments = receipts.order_by("created_at").values_list("created_at", flat=True)
    if full := moments[STEP : STEP + 1]:
        return full[0]
    return latest if moments[:1] or refunds.exists() else None


def _add(kind: str, after: datetime | None, until: datetime) -> None:
    field = total_field(kind)
    sums = written_between(kind, after, until)
    known = {
        getattr(total, f"{field}_id"): total
        for total in CreditTotal.objects.filter(**{f"{field}__in": list(sums)})
    }
    fresh = []
    for pk, (amount, answers) in sums.items():
        total = known.get(pk)
        if total is None:
            fresh.append(CreditTotal(**{f"{field}_id": pk}, amount=amount, answers=answers))
        else:
            total.amount += amount
            total.answers += answers
    CreditTotal.objects.bulk_create(fresh, batch_size=1_000)
    CreditTotal.objects.bulk_update(known.values(), ["amount", "answers"], batch_size=1_000)
