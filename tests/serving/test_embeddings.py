"""Vectors of a base: counted, held, computed as transformers does, paid once or not at all."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import numpy as np
import pytest
from django.utils import timezone

from accounts import api_keys, leases
from ledger.models import Account, Entry, Hold
from serving import embedding_work
from serving.errors import InvalidRequest, KeyCapReached, NoBalance, NoWorker, PromptTooLong
from serving.models import Deployment, Embedding
from serving.openai_api import embeddings as vectors
from serving.services import embeddings as service
from tests.ledger.books import OPEN, balance_of, fund
from tests.serving.conftest import beat

pytestmark = pytest.mark.django_db
TEXTS = ["A record is read.", "What does a contributor do with a file?", "A record is read."]


@pytest.fixture
def start(base_alone: Deployment, client_person):
    def started(texts=TEXTS, **changes) -> Embedding:
        values = {"deployment": base_alone, "payer": client_person, "acting_user": client_person}
        return service.start_embedding(texts=texts, at=timezone.now(), **{**values, **changes})

    return started


def vectors_of(made: Embedding) -> np.ndarray:
    return np.frombuffer(bytes(made.vectors), "<f4").reshape(-1, made.dimensions)


def test_vectors_are_the_mean_of_the_last_states_and_paid_by_the_token(start, base, client_person):
    made = start()
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN - made.fee
    embedding_work.run_embedding(made.pk)
    embedding_work.run_embedding(made.pk)
    made.refresh_from_db()
    assert made.state == "SUCCEEDED"
    assert made.prompt_tokens == sum(map(len, made.inputs))
    assert made.fee == made.prompt_tokens * made.input_price
    assert Hold.objects.get(pk=made.hold_id).state == "CAPTURED"
    entry = Entry.objects.get(pk=made.entry_id)
    assert (entry.cause_kind, entry.cause_id) == ("embedding", made.pk)
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN - made.fee
    assert balance_of(Account.Kind.HOLD, client_person.pk) == 0
    found = vectors_of(made)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    for ids, vector in zip(made.inputs, found, strict=True):
        assert np.allclose(vector, alone(base, ids), atol=1e-5)
    assert np.allclose(found[0], found[2], atol=1e-6)
    assert not np.allclose(found[0], found[1], atol=1e-2)


def alone(base, ids: list[int]) -> np.ndarray:
    """As transformers computes the text by itself, without padding."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(base.path, dtype=torch.float32).eval()
    with torch.inference_mode():
        states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    mean = states.mean(0)
    return (mean / mean.norm()).numpy()


def test_what_fails_costs_nothing(start, client_person, monkeypatch):
    made = start()
    monkeypatch.setattr(embedding_work, "embedder_for", lambda base: 1 / 0)
    embedding_work.run_embedding(made.pk)
    made.refresh_from_db()
    assert made.state == "FAILED"
    assert "not charged" in made.failure_reason
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN


def test_a_worker_that_died_is_followed_by_another_and_then_given_up(start, client_person):
    made = start()
    service.claim(embedding_id=made.pk, owner="dead", at=timezone.now())
    leases.sweep(at=timezone.now() + timedelta(minutes=3))
    made.refresh_from_db()
    assert made.state == "HELD"
    leases.sweep(at=timezone.now() + timedelta(minutes=10))
    made.refresh_from_db()
    assert made.state == "FAILED"
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN


def test_what_comes_after_everybody_gave_up_is_not_charged(start, client_person):
    made = start()
    service.claim(embedding_id=made.pk, owner="slow", at=timezone.now())
    late = made.created_at + service.GIVEN_UP + timedelta(seconds=1)
    service.settle(embedding_id=made.pk, owner="slow", vectors=bytes(8), dimensions=2, at=late)
    made.refresh_from_db()
    assert (made.state, made.vectors) == ("FAILED", None)
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN


def test_who_leaves_before_a_worker_took_it_pays_nothing(start, client_person):
    made, taken = start(), start()
    service.claim(embedding_id=taken.pk, owner="here", at=timezone.now())
    for one in (made, taken):
        service.take_back(embedding_id=one.pk, at=timezone.now())
        one.refresh_from_db()
    assert (made.state, taken.state) == ("FAILED", "RUNNING")
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN - taken.fee


def test_a_client_that_goes_away_takes_its_texts_back(start, monkeypatch):
    left: list[object] = []

    async def forever(*_: object) -> None:
        await asyncio.sleep(60)

    async def call(work, pk):
        left.append((work.__name__, pk))

    monkeypatch.setattr(vectors.streams, "wait_for_end", forever)
    monkeypatch.setattr(vectors, "off_loop", call)
    made = start()

    async def leave() -> None:
        asking = asyncio.ensure_future(vectors.answer(made, vectors.Body(model="x", input="y")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(leave())
    assert left == [("_take_back", made.pk)]


def test_texts_and_vectors_are_not_kept(start):
    made = start()
    embedding_work.run_embedding(made.pk)
    service.forget_unfetched(at=timezone.now())
    made.refresh_from_db()
    assert made.vectors
    service.forget_unfetched(at=timezone.now() + timedelta(hours=2))
    made.refresh_from_db()
    assert (made.vectors, made.inputs) == (None, [])


@pytest.mark.parametrize(
    ("texts", "error"),
    [
        ([], InvalidRequest),
        ([""], InvalidRequest),
        ([[10**6]], InvalidRequest),
        ([[-1]], InvalidRequest),
        (["a"] * 65, InvalidRequest),
        (["word " * 600], PromptTooLong),
    ],
)
def test_what_cannot_be_read_is_refused_before_the_hold(start, texts, error):
    with pytest.raises(error):
        start(texts)
    assert not Embedding.objects.exists()


def test_it_needs_a_base_a_worker_a_balance_and_room_under_the_cap(
    start, tuned, stranger, client_person
):
    with pytest.raises(InvalidRequest, match="ask starter"):
        start(deployment=tuned)
    with pytest.raises(NoBalance):
        start(payer=stranger, acting_user=stranger)
    key, _ = api_keys.create_key(
        user=client_person,
        name="capped",
        limits=api_keys.Limits(spend_cap=1),
        acting_user=client_person,
        at=timezone.now(),
    )
    with pytest.raises(KeyCapReached):
        start(api_key=key)
    beat(ago=600)
    with pytest.raises(NoWorker):
        start()
    assert not Embedding.objects.exists()
    assert not Hold.objects.exists()


def test_a_flood_of_texts_leaves_the_threads_to_answers(start, stranger, monkeypatch):
    """A message without a place is dropped; who has one goes on, with another's texts first."""
    fund(stranger, OPEN)
    flood = [start() for _ in range(3)]
    late = start(payer=stranger, acting_user=stranger)
    monkeypatch.setattr(embedding_work, "_places", {})
    monkeypatch.setattr(embedding_work, "PLACES", 1)
    order = []

    def slowly(embedding_id) -> None:
        order.append(embedding_id)
        Embedding.objects.filter(pk=embedding_id).update(state="RUNNING")
        taken = len(order)
        embedding_work.run_embedding(flood[2].pk)
        assert len(order) == taken

    monkeypatch.setattr(embedding_work, "_run", slowly)
    embedding_work.run_embedding(flood[0].pk)
    assert order == [flood[0].pk, late.pk, flood[1].pk, flood[2].pk]
