"""A request goes to a worker that has its adapter in memory, where one is free."""

from __future__ import annotations

from datetime import timedelta

import pytest
from celery import Celery
from django.utils import timezone

from accounts import workers
from accounts.models import OutboxMessage
from config import heartbeats
from serving.models import Completion, EngineReport
from serving.questions import Question, Sampling
from serving.services.completions import start_completion
from serving.turns import wake
from tests.serving.conftest import QUEUE

pytestmark = pytest.mark.django_db


def report(worker: str, *adapters: str, ago: float = 0.0, places: int = 2) -> None:
    """A live worker, and what its engine last told of itself."""
    at = timezone.now()
    workers.beat(name=worker, queue=QUEUE, pid=1, device="cpu", dtype="float32", at=at)
    held = [{"name": name, "bytes": 1} for name in adapters]
    EngineReport.objects.create(
        worker=worker,
        base="starter",
        at=at - timedelta(seconds=ago),
        snapshot={"engine": {}, "adapters": held, "places": places},
    )


@pytest.fixture
def queue_of(client_person):
    """The queue that the next request of a deployment goes to."""

    def asked(deployment) -> str:
        start_completion(
            deployment=deployment,
            question=Question.chat("What is a record?"),
            sampling=Sampling(max_tokens=2),
            payer=client_person,
            acting_user=client_person,
            at=timezone.now(),
        )
        return OutboxMessage.objects.order_by("id").last().queue

    return asked


def test_the_worker_that_has_the_adapter_is_asked(tuned, queue_of):
    report("a:1", "another")
    report("b:2", "builder-tuned", "another")
    assert queue_of(tuned) == f"{QUEUE}@b:2"


def test_of_two_that_have_it_the_less_busy_one_and_a_full_one_never(tuned, queue_of):
    report("a:1", "builder-tuned")
    report("b:2", "builder-tuned")
    for owner, following in (
        ("a:1:x", "@b:2"), ("b:2:x", "@a:1"), ("a:1:y", "@b:2"), ("b:2:y", ""),
    ):  # fmt: skip
        queue_of(tuned)
        Completion.objects.filter(state="HELD").update(state="RUNNING", lease_owner=owner)
        assert queue_of(tuned) == QUEUE + following
        Completion.objects.filter(state="HELD").delete()


def test_without_a_choice_whoever_comes_first_takes_it(tuned, base_alone, queue_of):
    assert queue_of(tuned) == QUEUE
    report("a:1", "another")
    report("b:2", "builder-tuned", ago=600)
    assert queue_of(tuned) == QUEUE
    assert queue_of(base_alone) == QUEUE


def test_what_the_warm_one_does_not_take_is_anybodys_after_a_second(tuned, queue_of):
    report("a:1")
    report("b:2", "builder-tuned")
    assert queue_of(tuned) == f"{QUEUE}@b:2"
    wake(["starter"], 4, at=timezone.now() + timedelta(seconds=2))
    assert OutboxMessage.objects.order_by("id").last().queue == QUEUE


def test_a_generate_worker_takes_from_a_queue_of_its_own_too(monkeypatch):
    class Instance:
        app = Celery("test")

    monkeypatch.setattr("config.heartbeats._queues", [])
    Instance.app.amqp.queues.select(["default", QUEUE])
    heartbeats.remember_queues(sender="w", instance=Instance)
    own = [name for name in Instance.app.amqp.queues.consume_from if "@" in name]
    assert len(own) == 1
    assert own[0].startswith(f"{QUEUE}@")
    assert heartbeats._queues == ["default", QUEUE]
