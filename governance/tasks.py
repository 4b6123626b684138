"""Mirrors governance when the chain's mirror says that there is something new."""

from typing import Any

from celery import shared_task
from django.utils import timezone

from governance.services import projection


@shared_task
def mirror(payload: dict[str, Any]) -> None:
    if payload["contract"] in projection.CONTRACTS:
        projection.mirror(at=timezone.now())


@shared_task
def rebuild(payload: dict[str, Any]) -> None:
    projection.rebuild(at=timezone.now())
