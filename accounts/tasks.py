"""Housekeeping that beat starts."""

from celery import shared_task
from django.utils import timezone

from accounts import idempotency, leases, outbox, siwe, workers


@shared_task
def sweep_leases() -> None:
    leases.sweep(at=timezone.now())


@shared_task
def forget_old_rows() -> None:
    outbox.forget_given_up(at=timezone.now())
    workers.forget_dead(at=timezone.now())
    siwe.forget_expired(at=timezone.now())
    idempotency.forget_old(at=timezone.now())
