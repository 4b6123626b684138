"""The attribute queue's tasks: an id in, one call."""

from uuid import UUID

from celery import shared_task
from django.utils import timezone


@shared_task
def model_created(payload: dict[str, str]) -> None:
    from attribution.services import indexes

    indexes.request_index(model_id=UUID(payload["model_id"]), acting_user=None, at=timezone.now())


@shared_task
def build_index(index_id: str) -> None:
    from attribution import workers

    workers.build_index(UUID(index_id))


@shared_task
def build_index_part(index_id: str) -> None:
    from attribution import part_workers

    part_workers.build_part(UUID(index_id))


@shared_task
def build_span_index(index_id: str) -> None:
    from attribution import passages

    passages.build_span_index(UUID(index_id))


@shared_task
def record_withheld(payload: dict[str, str]) -> None:
    from attribution.services import span_indexes

    span_indexes.forget_record(record_id=UUID(payload["record_id"]), at=timezone.now())
    revise_indexes(payload["record_id"])


@shared_task
def revise_indexes(record_id: str) -> None:
    from attribution.services import indexes

    indexes.request_revisions(record_id=UUID(record_id), at=timezone.now())


@shared_task
def attribute(attribution_id: str) -> None:
    from attribution import workers

    workers.attribute(UUID(attribution_id))


@shared_task
def release_blends() -> None:
    from attribution.services import receipts

    receipts.release_blends(at=timezone.now())


@shared_task
def rescore(rescoring_id: str) -> None:
    from attribution import rescoring

    rescoring.rescore(UUID(rescoring_id))


@shared_task
def audit_exactly(audit_id: str) -> None:
    from attribution import exact_auditing

    exact_auditing.audit_exactly(UUID(audit_id))


@shared_task
def sequence_log() -> None:
    from attribution.services import log

    log.sequence(at=timezone.now())


@shared_task
def audit_next_index() -> None:
    from attribution import auditing

    auditing.audit_next()


@shared_task
def tidy_builds() -> None:
    from attribution import tidying

    tidying.tidy_store()
    tidying.tidy_machine(at=timezone.now())


@shared_task
def add_up_credits() -> None:
    from attribution.services import totals

    totals.add_up(at=timezone.now())
