"""What the generate worker does with a deployment and with a request, in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from accounts.blobs import put_bytes
from accounts.models import Blob
from ledger.models import Account
from serving import streams, workers
from serving.models import Completion
from serving.questions import Question, Sampling
from serving.services.completions import start_completion
from serving.services.deployments import deploy
from serving.streams import End, Piece
from tests.ledger.books import OPEN, balance_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True, scope="module")
def engines() -> Iterator[None]:
    yield
    workers.close_engines()


@pytest.fixture
def ask(tuned, client_person):
    def start(**sampling) -> Completion:
        return start_completion(
            deployment=tuned,
            question=Question.chat("What is a record?"),
            sampling=Sampling(**{"max_tokens": 8, "temperature": 0, **sampling}),
            payer=client_person,
            acting_user=client_person,
            at=timezone.now(),
        )

    return start


def test_a_deployment_is_live_once_its_adapter_is_loaded(make_model, live_worker, builder):
    made = deploy(model=make_model(), acting_user=builder, at=timezone.now())
    workers.load_deployment(made.pk)
    made.refresh_from_db()
    assert (made.state, made.failure_reason, made.lease_owner) == ("LIVE", "", "")
    workers.load_deployment(made.pk)


def test_an_adapter_of_other_bytes_is_refused_with_the_reason(make_model, live_worker, builder):
    model = make_model()
    model.adapter_sha256 = put_bytes(b"no tensors", "application/octet-stream").sha256
    model.save()
    made = deploy(model=model, acting_user=builder, at=timezone.now())
    workers.load_deployment(made.pk)
    made.refresh_from_db()
    assert made.state == "STOPPED"
    assert "cannot be read" in made.failure_reason


def test_an_adapter_that_the_store_lost_is_refused(make_model, live_worker, builder):
    made = deploy(model=make_model(adapter_sha256="0" * 64), acting_user=builder, at=timezone.now())
    workers.load_deployment(made.pk)
    made.refresh_from_db()
    assert made.state == "STOPPED"
    assert made.failure_reason


def test_a_request_is_answered_into_its_stream_and_charged_once(ask, client_person):
    made = ask()
    workers.run_completion(made.pk)
    workers.run_completion(made.pk)
    made.refresh_from_db()
    assert (made.state, made.completion_tokens) == ("SUCCEEDED", 8)
    entries = streams.connection_of_this_process().xrange(streams.key_of(made.pk))
    assert b"".join(fields.get(b"text", b"") for _, fields in entries).decode() == made.answer
    assert entries[-1][1] == {b"end": b"1"}
    assert made.first_token_at
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN - made.fee


def test_a_model_that_cannot_be_loaded_fails_the_request_free_of_charge(ask, tuned, client_person):
    made = ask()
    tuned.model.adapter_sha256 = "0" * 64
    tuned.model.save()
    workers.run_completion(made.pk)
    made.refresh_from_db()
    assert made.state == "FAILED"
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN


def test_a_blob_that_is_gone_fails_that_request_alone_and_says_so(
    ask, tuned, client_person, settings, tmp_path
):
    """At swap-in there is nothing to read; while it decodes, what is in memory is enough."""
    path = Path(default_storage.path(Blob(sha256=tuned.model.adapter_sha256).path))
    kept = path.read_bytes()
    workers.close_engines()
    settings.DATA_DIR = tmp_path  # so that neither memory nor a pack has it
    path.unlink()
    hurt = ask()
    workers.run_completion(hurt.pk)
    hurt.refresh_from_db()
    assert (hurt.state, hurt.fee) == ("FAILED", 0)
    assert "cannot be read" in hurt.failure_reason
    assert "Nothing was charged" in hurt.failure_reason
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN
    path.write_bytes(kept)
    well = ask()
    workers.run_completion(well.pk)
    path.unlink()
    again = ask()
    workers.run_completion(again.pk)
    path.write_bytes(kept)
    well.refresh_from_db()
    again.refresh_from_db()
    assert (well.state, again.state) == ("SUCCEEDED", "SUCCEEDED")
    assert again.answer_ids == well.answer_ids


def test_a_broken_stream_costs_the_reader_nothing(ask, monkeypatch):
    """Redis goes away in the middle: the rest comes from the database."""
    made = ask(max_tokens=24)
    plain = streams.Writer._send
    calls: list[int] = []

    def failing(self, fill):
        calls.append(1)
        if len(calls) == 5:
            self._broken = True
            return
        plain(self, fill)

    monkeypatch.setattr(streams.Writer, "_send", failing)
    workers.run_completion(made.pk)
    made.refresh_from_db()
    monkeypatch.setattr(streams, "_load", lambda _: made)
    assert read(made) == made.answer


def test_a_stream_with_a_gap_is_not_trusted(ask, monkeypatch):
    made = ask(max_tokens=24)
    workers.run_completion(made.pk)
    made.refresh_from_db()
    client, key = streams.connection_of_this_process(), streams.key_of(made.pk)
    client.xdel(key, client.xrange(key)[2][0])
    monkeypatch.setattr(streams, "_load", lambda _: made)
    assert read(made) == made.answer


def test_nobody_waits_for_ever(ask, monkeypatch):
    made = ask()
    made.deadline = timezone.now() - timedelta(hours=1)
    monkeypatch.setattr(streams, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(streams, "_load", lambda _: made)
    ends: list[End] = []
    assert read(made, ends) == ""
    assert ends[0].completion.state == "FAILED"


def read(completion: Completion, ends: list[End] | None = None) -> str:
    async def whole() -> str:
        text = ""
        async for event in streams.read(completion.pk):
            if isinstance(event, Piece):
                text += event.text
            elif ends is not None:
                ends.append(event)
        return text

    return asyncio.run(whole())


def test_the_deadline_ends_an_answer_which_costs_what_was_written(
    ask, base, client_person, monkeypatch
):
    slow_down(monkeypatch, workers.engine_for(base), 0.02)
    made = ask(max_tokens=400)
    made.deadline = timezone.now() + timedelta(seconds=0.5)
    made.save(update_fields=["deadline"])
    workers.run_completion(made.pk)
    made.refresh_from_db()
    assert (made.state, made.finish_reason) == ("CANCELLED", "cancelled")
    assert 0 < made.completion_tokens < 400
    fee = made.prompt_tokens * made.input_price + made.completion_tokens * made.output_price
    assert made.fee == fee
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN - fee


def slow_down(monkeypatch, engine, seconds: float) -> None:
    plain = engine.backend.forward

    def slow(batch):
        time.sleep(seconds)
        return plain(batch)

    monkeypatch.setattr(engine.backend, "forward", slow)


def test_a_worker_out_of_memory_fails_that_request_alone_free_of_charge(
    ask, base, client_person, monkeypatch
):
    engine = workers.engine_for(base)

    def full(batch):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(engine.backend, "forward", full)
        hurt = ask()
        workers.run_completion(hurt.pk)
    well = ask()
    workers.run_completion(well.pk)
    hurt.refresh_from_db()
    well.refresh_from_db()
    assert (hurt.state, well.state) == ("FAILED", "SUCCEEDED")
    assert "MemoryError" in hurt.failure_reason
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN - well.fee
