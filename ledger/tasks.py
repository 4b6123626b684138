"""What workers do for the ledger: ids in, one service call."""

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from ledger.services import distributions, holds


@shared_task
def release_expired_holds() -> None:
    holds.release_expired_holds(at=timezone.now())


@shared_task
def publish_distribution() -> None:
    distributions.publish_distribution(
        at=timezone.now(), acting_user=None, minimum=settings.DISTRIBUTION_MINIMUM_WEI
    )


@shared_task
def advance_distributions() -> None:
    distributions.advance_distributions(at=timezone.now())
