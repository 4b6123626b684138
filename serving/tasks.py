"""What Celery runs for serving. `load`, `generate`, `embed` and `pin` run on the queue of a base,
`load_elsewhere`, `ask_elsewhere` and `check_replicas` on the queue `external`.
"""

from uuid import UUID

from celery import shared_task


@shared_task
def load(deployment_id: str) -> None:
    from serving import workers

    workers.load_deployment(UUID(deployment_id))


@shared_task
def generate(completion_id: str) -> None:
    from serving import workers

    workers.run_completion(UUID(completion_id))


@shared_task
def load_elsewhere(deployment_id: str) -> None:
    from serving.external import worker

    worker.load_deployment(UUID(deployment_id))


@shared_task
def ask_elsewhere(completion_id: str) -> None:
    from serving.external import worker

    worker.run_completion(UUID(completion_id))


@shared_task
def embed(embedding_id: str) -> None:
    from serving import embedding_work

    embedding_work.run_embedding(UUID(embedding_id))


@shared_task
def build_retrieval(index_id: str) -> None:
    from serving.retrieval import working

    working.build(UUID(index_id))


@shared_task
def record_withheld(payload: dict[str, str]) -> None:
    from serving.services import retrieval

    retrieval.forget_record(record_id=UUID(payload["record_id"]))


@shared_task
def pin(base_id: str) -> None:
    from serving import workers

    workers.keep_pins(UUID(base_id))


@shared_task
def pin_elsewhere(base_id: str) -> None:
    from serving.external import worker

    worker.keep_pins(UUID(base_id))


@shared_task
def end_pins() -> None:
    from django.utils import timezone

    from serving.services import pins

    pins.end_pins(at=timezone.now())


@shared_task
def forget_unfetched() -> None:
    from django.utils import timezone

    from serving.services import embeddings

    embeddings.forget_unfetched(at=timezone.now())


@shared_task
def check_replicas() -> None:
    from serving.external import worker

    worker.check_replicas()


@shared_task
def note_receipt(payload: dict[str, str]) -> None:
    from serving.services import running

    running.note_receipt(
        completion_id=UUID(payload["completion_id"]), receipt_id=UUID(payload["receipt_id"])
    )
