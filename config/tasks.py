"""What workers do for the whole house."""

from celery import shared_task
from django.utils import timezone

from config import books


@shared_task
def reconcile_when_due() -> None:
    """On `books.queue()` only: reading the contracts imports web3."""
    books.reconcile_when_due(at=timezone.now())


@shared_task
def reconcile_books() -> None:
    """On `books.queue()` only: reading the contracts imports web3."""
    books.reconcile(at=timezone.now())
