"""A worker takes requests in turn: a key that floods has its share, and no more."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.db import OperationalError
from django.utils import timezone

from accounts import api_keys
from accounts.models import ApiKey, OutboxMessage, User
from serving import carrying
from serving.models import Completion
from serving.questions import Question, Sampling
from serving.services import running
from serving.services.completions import start_completion
from serving.services.running import Answer
from serving.turns import Turns, wake
from tests.ledger.books import OPEN, fund, person

pytestmark = pytest.mark.django_db


@pytest.fixture
def asks(tuned):
    def ask(payer: User, key: ApiKey | None = None) -> Completion:
        return start_completion(
            deployment=tuned,
            question=Question.chat("What is a record?"),
            sampling=Sampling(max_tokens=2, temperature=0),
            payer=payer,
            api_key=key,
            acting_user=payer,
            at=timezone.now(),
        )

    return ask


@pytest.fixture
def other(db) -> User:
    user = person("other")
    fund(user, 10 * OPEN)
    return user


STILL_ANSWERING: list[object] = []


def take(turns: Turns, completion_id: UUID | None) -> Completion:
    """As a thread does that goes on answering it."""
    assert completion_id is not None
    Completion.objects.filter(pk=completion_id).update(state="RUNNING")
    taken = Completion.objects.get(pk=completion_id)
    answering = turns.taken(taken)
    answering.__enter__()
    STILL_ANSWERING.append(answering)
    return taken


def test_a_key_has_its_share_and_another_is_taken_at_once(asks, client_person, other):
    turns = Turns(most=2)
    flood = [asks(client_person) for _ in range(5)]
    for one in flood[:2]:
        assert take(turns, turns.first(one.pk)) == one
    assert [turns.first(one.pk) for one in flood[2:]] == [None] * 3
    late = asks(other)
    assert take(turns, turns.first(late.pk)) == late


def test_what_was_let_in_counts_before_it_is_claimed(asks, client_person):
    """Many threads get a message of one flood at the same moment."""
    turns = Turns(most=2)
    flood = [asks(client_person) for _ in range(3)]
    assert turns.first(flood[0].pk)
    assert turns.first(flood[1].pk)
    assert turns.first(flood[2].pk) is None
    turns.missed()
    assert turns.first(flood[2].pk)


def test_a_thread_that_is_done_goes_on_with_who_has_the_fewest(asks, client_person, other):
    turns = Turns(most=2)
    flood = [asks(client_person) for _ in range(4)]
    take(turns, turns.first(flood[0].pk))
    late = asks(other)
    assert turns.following(flood[0].pk) == late.pk


def test_the_keys_of_one_person_share_and_each_begins(asks, client_person, other):
    keys = [
        api_keys.create_key(
            user=client_person, name=name, acting_user=client_person, at=timezone.now()
        )[0]
        for name in ("one", "two")
    ]
    turns = Turns(most=2)
    flood = [asks(client_person, keys[0]) for _ in range(3)]
    second = asks(client_person, keys[1])
    for one in flood[:2]:
        take(turns, turns.first(one.pk))
    assert take(turns, turns.first(second.pk)) == second
    late = asks(other)
    assert turns.following(flood[0].pk) == late.pk


def test_one_message_has_everything_answered_in_the_end(asks, client_person, other):
    order: list[UUID] = []

    def answering(completion, watched, writer) -> Answer:
        order.append(completion.pk)
        return Answer([5], "x", "stop")

    flood = [asks(client_person) for _ in range(3)]
    late = asks(other)
    carrying.carry_in_turn(flood[0].pk, answering, Turns(most=1))
    assert order[0] == flood[0].pk
    assert set(order) == {late.pk, *(one.pk for one in flood)}
    assert set(Completion.objects.values_list("state", flat=True)) == {"SUCCEEDED"}


def test_what_waits_though_there_are_places_gets_a_message_again(asks, client_person):
    waiting = [asks(client_person) for _ in range(3)]
    OutboxMessage.objects.all().delete()
    now = timezone.now()
    assert wake(["starter"], 2, at=now) == 0
    assert wake(["starter"], 2, at=now + timedelta(seconds=2)) == 2
    told = OutboxMessage.objects.order_by("id").values_list("args", flat=True)
    assert list(told) == [[str(one.pk)] for one in waiting[:2]]
    assert wake(["another"], 2, at=now + timedelta(seconds=2)) == 0


def test_a_database_that_is_away_takes_no_place_for_ever(asks, client_person, monkeypatch):
    turns = Turns(most=2)
    waiting = asks(client_person)

    def away(**_: object) -> None:
        raise OperationalError("the server closed the connection")

    with monkeypatch.context() as broken:
        broken.setattr(running, "claim", away)
        for _ in range(3):
            with pytest.raises(OperationalError):
                carrying.carry_in_turn(waiting.pk, lambda *_: None, turns)
    assert turns.first(waiting.pk) == waiting.pk


def test_what_is_answered_elsewhere_gets_no_message_from_engines_here(
    asks, client_person, monkeypatch
):
    asks(client_person)
    OutboxMessage.objects.all().delete()
    monkeypatch.setattr("serving.turns.queue_of", lambda base, at: "external")
    assert wake(["starter"], 2, at=timezone.now() + timedelta(seconds=2)) == 0
    assert not OutboxMessage.objects.exists()
