"""Mirrors governance when the chain's mirror says that there is something new."""

from typing import Any

from celery import shared_task
from django.utils import timezone

from governance.selectors import governed
from governance.services import projection
from ledger.services import poolfunding


@shared_task
def mirror(payload: dict[str, Any]) -> None:
    if payload["contract"] in projection.CONTRACTS:
        projection.mirror(at=timezone.now())


@shared_task
def rebuild(payload: dict[str, Any]) -> None:
    projection.rebuild(at=timezone.now())


@shared_task
def fund_stake_pools() -> None:
    """The stakers' part of fees goes to their pools, by the weight that is governed now."""
    poolfunding.fund_pools(locked_weight_bps=governed("stake.locked_weight_bps"), at=timezone.now())
