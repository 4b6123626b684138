"""The ingest queue's tasks: an id in, one service call."""

from uuid import UUID

from celery import shared_task
from django.utils import timezone

from datanets.services import (
    checking,
    near_duplicates,
    slashing,
    staking,
    submission,
    uploads,
    versions,
)


@shared_task
def preview_contribution(contribution_id: str) -> None:
    checking.preview_contribution(contribution_id=UUID(contribution_id))


@shared_task
def check_contribution(contribution_id: str) -> None:
    checking.check_contribution(contribution_id=UUID(contribution_id))


@shared_task
def write_records(contribution_id: str) -> None:
    submission.write_records(contribution_id=UUID(contribution_id))


@shared_task
def compare_records() -> None:
    near_duplicates.compare_all()


@shared_task
def build_version(build_id: str) -> None:
    versions.build_version(build_id=UUID(build_id))


@shared_task
def expire_uploads() -> None:
    uploads.expire_uploads(at=timezone.now())


@shared_task
def settle_stakes() -> None:
    """Execute slashes that nobody appealed, then give back stakes whose time has come."""
    now = timezone.now()
    slashing.execute_due_slashes(at=now)
    staking.return_due_stakes(at=now)
