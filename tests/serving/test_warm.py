"""A request goes to a worker that has its adapter in memory, where one is free."""

from __future__ import annotations

from datetime import timedelta

import pytest
from celery import Celery
from django.utils import timezone

from accounts import workers
from accounts.models import OutboxMessage
from config import heartbeats
from serving import workers as working
from serving.engine.engine import Engine
from serving.engine.names import adapter_name
from serving.merges import Merged, of_engine, resolve, wish_of
from serving.models import Completion, Deployment, DeploymentState, EngineReport
from serving.questions import Question, Sampling
from serving.reporting import Reporter
from serving.residency import reported_name
from serving.services.completions import start_completion
from serving.turns import wake
from tests.serving.conftest import QUEUE

pytestmark = pytest.mark.django_db


ANOTHER = "0" * 64


def name_of(deployment) -> str:
    return adapter_name(deployment.model.adapter_sha256, deployment.model.adapter_config)


def report(worker: str, *adapters: str, ago: float = 0.0, places: int = 2) -> None:
    """A live worker, and what its engine last told of itself."""
    at = timezone.now()
    workers.beat(name=worker, queue=QUEUE, pid=1, device="cpu", dtype="float32", at=at)
    held = [{"adapter": reported_name(name), "name": "?", "bytes": 1} for name in adapters]
    EngineReport.objects.create(
        worker=worker,
        base="starter",
        at=at - timedelta(seconds=ago),
        snapshot={"engine": {}, "adapters": held, "places": places},
    )


@pytest.fixture
def queue_of(client_person):
    """The queue that the next request of a deployment goes to."""

    def asked(deployment, merge=None) -> str:
        start_completion(
            deployment=deployment,
            merge=merge,
            question=Question.chat("What is a record?"),
            sampling=Sampling(max_tokens=2),
            payer=client_person,
            acting_user=client_person,
            at=timezone.now(),
        )
        return OutboxMessage.objects.order_by("id").last().queue

    return asked


def test_the_worker_that_has_the_adapter_is_asked(tuned, queue_of):
    report("a:1", ANOTHER)
    report("b:2", name_of(tuned), ANOTHER)
    assert queue_of(tuned) == f"{QUEUE}@b:2"


def test_of_two_that_have_it_the_less_busy_one_and_a_full_one_never(tuned, queue_of):
    report("a:1", name_of(tuned))
    report("b:2", name_of(tuned))
    for owner, following in (
        ("a:1:x", "@b:2"), ("b:2:x", "@a:1"), ("a:1:y", "@b:2"), ("b:2:y", ""),
    ):  # fmt: skip
        queue_of(tuned)
        Completion.objects.filter(state="HELD").update(state="RUNNING", lease_owner=owner)
        assert queue_of(tuned) == QUEUE + following
        Completion.objects.filter(state="HELD").delete()


def test_without_a_choice_whoever_comes_first_takes_it(tuned, base_alone, queue_of):
    assert queue_of(tuned) == QUEUE
    report("a:1", ANOTHER)
    report("b:2", name_of(tuned), ago=600)
    assert queue_of(tuned) == QUEUE
    assert queue_of(base_alone) == QUEUE


@pytest.fixture
def blend(tuned, base_alone, make_model, client_person):
    """Of two adapters, with the names of both in an engine."""
    second = make_model("second", seed=2)
    Deployment.objects.create(
        name="second", base_model=second.base_model, model=second, owner=second.owner,
        state=DeploymentState.LIVE, input_price=1, output_price=1,
    )  # fmt: skip
    wish = wish_of([(tuned.name, 0.7), ("second", 0.3)], method="ties", density=0.5)
    at = timezone.now()
    return resolve(wish=wish, deployment=base_alone, user=client_person, at=at)


def names_of(blend: Merged) -> dict:
    return {one.model_id: name_of(one) for one, _ in blend.parents}


def test_a_blend_goes_where_it_was_made_before_else_where_all_its_adapters_are(
    tuned, base_alone, blend, queue_of
):
    names = names_of(blend)
    report("a:1", name_of(tuned))
    report("b:2")
    assert queue_of(base_alone, blend) == QUEUE
    report("c:3", *names.values())
    assert queue_of(base_alone, blend) == f"{QUEUE}@c:3"
    report("d:4", of_engine(blend.to_json(), names).name)
    assert queue_of(base_alone, blend) == f"{QUEUE}@d:4"


def test_two_engines_tell_what_they_have_and_each_is_asked_for_its_own(
    tuned, base, base_alone, blend, queue_of
):
    """No report is made up here: the engines load, merge and tell."""
    names = names_of(blend)
    second = next(one for one, _ in blend.parents if one.pk != tuned.pk)
    engines = {worker: Engine(base.path, max_active=2) for worker in ("a:1", "b:2")}
    try:
        for worker, model in (("a:1", tuned.model), ("b:2", second.model)):
            working.ensure_adapter(engines[worker], model)
        _tell(engines)
        assert queue_of(tuned) == f"{QUEUE}@a:1"
        assert queue_of(second) == f"{QUEUE}@b:2"
        assert queue_of(base_alone, blend) == QUEUE
        working.ensure_adapter(engines["b:2"], tuned.model)
        engines["b:2"].ensure_merged(of_engine(blend.to_json(), names))
        _tell(engines)
        assert queue_of(base_alone, blend) == f"{QUEUE}@b:2"
    finally:
        for engine in engines.values():
            engine.close()


def _tell(engines: dict) -> None:
    for worker, engine in engines.items():
        at = timezone.now()
        workers.beat(name=worker, queue=QUEUE, pid=1, device="cpu", dtype="float32", at=at)
        Reporter(worker, lambda engine=engine: {"starter": engine}, lambda *_: None).report()


def test_what_the_warm_one_does_not_take_is_anybodys_after_a_second(tuned, queue_of):
    report("a:1")
    report("b:2", name_of(tuned))
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
