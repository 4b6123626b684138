"""What goes wrong on a server elsewhere: another answers, or nothing is charged."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import OutboxMessage
from ledger.models import Account, Hold
from serving import streams
from serving.external import client, worker
from serving.models import Completion, Replica, ReplicaAdapter
from serving.services.completions import cancel_completion
from serving.services.running import Answer
from serving.turns import Turns, wake
from tests.ledger.books import OPEN, balance_of
from tests.serving.conftest import beat
from tests.serving.external.conftest import KEY
from tests.serving.external.vllm_server import TEXT


def state_of(server, servers, replicas) -> Replica:
    found = replicas[servers.index(server)]
    found.refresh_from_db()
    return found


def test_a_500_is_asked_again_of_another_and_paid_once(
    deployed, order, servers, replicas, ask, client_person
):
    order[0].failing = 1
    made = ask(deployed)
    assert (made.state, made.answer) == ("SUCCEEDED", TEXT)
    assert len(order[1].asked) == 1
    assert made.replica == state_of(order[1], servers, replicas)
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN - made.fee
    assert Hold.objects.filter(state="CAPTURED").count() == 1
    first = state_of(order[0], servers, replicas)
    assert (first.failures, first.state) == (1, "UNCHECKED")


def test_a_server_that_keeps_failing_is_asked_no_more_until_it_is_well(
    deployed, order, servers, replicas, ask
):
    order[0].failing = 3
    for _ in range(3):
        assert ask(deployed).state == "SUCCEEDED"
    assert state_of(order[0], servers, replicas).state == "FAILING"
    asked = len(order[0].asked)
    assert ask(deployed).state == "SUCCEEDED"
    assert len(order[0].asked) == asked
    worker.check_replicas()
    first = state_of(order[0], servers, replicas)
    assert (first.state, first.failures) == ("HEALTHY", 0)


def test_where_every_server_fails_nothing_is_charged(deployed, order, ask, client_person):
    order[0].failing = order[1].failing = 1
    made = ask(deployed)
    assert made.state == "FAILED"
    assert "not charged" in made.failure_reason
    # What the server said is for staff: it may be of its key, its folders or its network.
    assert "EngineCore" not in made.failure_reason
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN


def test_a_server_that_is_gone_is_known_at_once(deployed, order, servers, replicas, ask):
    gone = state_of(order[0], servers, replicas)
    Replica.objects.filter(pk=gone.pk).update(base_url="http://127.0.0.1:9")
    assert ask(deployed).state == "SUCCEEDED"
    assert state_of(order[0], servers, replicas).state == "FAILING"


def test_an_adapter_that_was_evicted_is_loaded_again(deployed, order, ask):
    order[0].evict()
    made = ask(deployed)
    assert (made.state, len(order[0].asked), len(order[1].asked)) == ("SUCCEEDED", 2, 0)
    assert set(order[0].loaded) == {ReplicaAdapter.objects.get().name}


def test_a_load_that_takes_too_long_is_anothers_turn(deployed, order, ask, monkeypatch):
    ReplicaAdapter.objects.all().delete()
    order[0].evict()
    order[0].load_seconds = 0.8
    monkeypatch.setattr(client, "LOAD_SECONDS", 0.3)
    made = ask(deployed)
    assert (made.state, len(order[0].asked), len(order[1].asked)) == ("SUCCEEDED", 0, 1)


def test_an_adapter_that_is_there_already_is_no_failure(deployed, order, ask):
    ReplicaAdapter.objects.all().delete()
    assert ask(deployed).state == "SUCCEEDED"
    assert len(order[0].asked) == 1


def test_a_stream_that_drops_before_the_first_token_is_anothers_turn(deployed, order, ask):
    order[0].drop_after = 0
    made = ask(deployed)
    assert (made.state, made.answer) == ("SUCCEEDED", TEXT)
    assert len(order[1].asked) == 1


@pytest.mark.parametrize("fault", ["drop_after", "error_after"])
def test_a_stream_that_drops_later_costs_nothing_and_is_not_asked_again(
    deployed, order, ask, client_person, fault
):
    setattr(order[0], fault, 3)
    made = ask(deployed)
    assert made.state == "FAILED"
    assert "broke off" in made.failure_reason
    assert order[1].asked == []
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN


def test_a_request_that_is_refused_is_not_carried_around(deployed, order, start, client_person):
    made = start(deployed)
    made.sampling["max_tokens"] = 0
    made.save(update_fields=["sampling"])
    worker.run_completion(made.pk)
    made.refresh_from_db()
    assert made.state == "FAILED"
    assert "max_tokens must be" in made.failure_reason
    assert order[1].asked == []
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN


def test_a_server_that_reports_more_is_paid_for_what_we_count(deployed, order, ask):
    order[0].usage = {"prompt_tokens": 500, "completion_tokens": 60}
    made = ask(deployed)
    counted = len(order[0].tokenizer.encode(TEXT))
    assert (made.completion_tokens, made.state) == (counted, "SUCCEEDED")
    assert made.prompt_tokens == len(made.prompt_ids)
    assert made.replica.usage_differed == 1


def test_a_server_that_reports_less_is_paid_for_less(deployed, order, ask):
    order[0].usage = {"prompt_tokens": 9, "completion_tokens": 2}
    made = ask(deployed)
    assert made.completion_tokens == 2
    assert made.replica.usage_differed == 1


def test_a_server_that_does_not_stop_is_paid_for_what_was_held(deployed, order, ask, monkeypatch):
    monkeypatch.setattr(
        "serving.external.bodies.request_of",
        lambda completion, replica, model: (
            "/v1/completions",
            {"model": model, "prompt": [1], "max_tokens": 50, "return_token_ids": True},
        ),
    )
    made = ask(deployed, max_tokens=4)
    assert (made.state, made.completion_tokens, made.finish_reason) == ("SUCCEEDED", 4, "length")
    assert made.fee == made.highest_fee


def in_time(made: Completion, change) -> Completion:
    """Let the worker run while `change` is done at the first token."""

    def change_at_first_token() -> None:
        client = streams.connection_of_this_process()
        client.xread({streams.key_of(made.pk): "0"}, block=10_000, count=1)
        change()

    beside = threading.Thread(target=change_at_first_token)
    beside.start()
    worker.run_completion(made.pk)
    beside.join()
    made.refresh_from_db()
    return made


def test_hanging_up_reaches_the_server_and_costs_what_was_written(
    deployed, order, start, client_person
):
    order[0].text, order[0].token_seconds = TEXT * 20, 0.05
    made = start(deployed, max_tokens=300)
    in_time(made, lambda: streams.announce_cancel(made.pk))
    assert (made.state, made.finish_reason) == ("CANCELLED", "cancelled")
    assert 0 < made.completion_tokens < 100
    assert made.answer_ids == order[0].tokenizer.encode(TEXT * 20)[: made.completion_tokens]
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN - made.fee
    assert order[0].hung_up.wait(5)


def test_the_deadline_ends_it_and_costs_what_was_written(deployed, order, start, client_person):
    order[0].text, order[0].token_seconds = TEXT * 20, 0.05
    made = start(deployed, max_tokens=300)
    made.deadline = timezone.now() + timedelta(seconds=1)
    made.save(update_fields=["deadline"])
    worker.run_completion(made.pk)
    made.refresh_from_db()
    assert made.state == "CANCELLED"
    assert 0 < made.completion_tokens < 100
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN - made.fee
    assert order[0].hung_up.wait(5)


def test_hanging_up_before_the_first_token_costs_nothing(deployed, order, start, client_person):
    order[0].token_seconds = 1.5
    made = start(deployed)
    timer = threading.Timer(0.5, lambda: streams.announce_cancel(made.pk))
    timer.start()
    worker.run_completion(made.pk)
    timer.join()
    made.refresh_from_db()
    assert (made.state, made.completion_tokens) == ("CANCELLED", 0)
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN
    assert order[1].asked == []


def test_what_was_cancelled_before_it_was_taken_is_not_asked(deployed, order, start):
    made = start(deployed)
    cancel_completion(completion=made, acting_user=None, at=timezone.now())
    worker.run_completion(made.pk)
    assert order[0].asked == []


def test_the_key_is_in_no_log_and_no_reason(deployed, order, servers, replicas, ask, caplog):
    order[0].key = "another"
    made = ask(deployed)
    assert made.state == "SUCCEEDED"
    first = state_of(order[0], servers, replicas)
    assert first.failures == 1
    for server in servers:
        server.key = "another"
    worker.check_replicas()
    first.refresh_from_db()
    assert first.state == "FAILING"
    assert "401" in first.state_reason
    assert KEY not in caplog.text + first.state_reason + repr(vars(first))


def test_a_flood_of_one_key_leaves_places_for_others(
    deployed, order, start, client_person, monkeypatch
):
    """The 64 threads of a worker are not all one person's, however many requests they have."""
    monkeypatch.setattr(worker, "_turns", Turns(most=1))
    flood = [start(deployed) for _ in range(2)]
    answered: list[object] = []

    def slowly(completion, watched, writer):
        answered.append(completion.pk)
        if completion.pk == flood[0].pk:
            # While it is being answered the next message of the same key comes.
            worker.run_completion(flood[1].pk)
            assert answered == [flood[0].pk]
        return Answer([5], "x", "stop")

    monkeypatch.setattr(worker, "answer", slowly)
    worker.run_completion(flood[0].pk)
    assert answered == [one.pk for one in flood]


def test_what_an_engine_here_took_over_is_left_to_it(deployed, order, start):
    waiting = start(deployed)
    turns = worker.TurnsElsewhere(most=9)
    assert turns.following(waiting.pk) == waiting.pk
    Replica.objects.update(state="FAILING")
    assert turns.following(waiting.pk) == waiting.pk
    beat()
    assert turns.following(waiting.pk) is None


def test_what_waits_for_a_server_elsewhere_gets_a_message_again(deployed, order, start):
    waiting = start(deployed)
    Completion.objects.update(created_at=timezone.now() - timedelta(seconds=5))
    OutboxMessage.objects.all().delete()
    assert wake(["starter"], 9, at=timezone.now()) == 0
    worker.check_replicas()
    message = OutboxMessage.objects.get()
    assert (message.task, message.args) == ("serving.tasks.ask_elsewhere", [str(waiting.pk)])
