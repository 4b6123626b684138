"""Who goes away: a client pays for what it got, a killed worker costs nobody anything."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import redis
from django.utils import timezone

from accounts import leases, outbox
from attribution.models import Attribution
from ledger.models import Account, Hold
from serving.models import Completion
from serving.questions import Question, Sampling
from serving.services.completions import start_completion
from tests.ledger.books import OPEN, balance_of
from tests.serving.live.conftest import ended, until

# Twenty rivals a token make an answer that takes longer than it takes to go away.
LONG = {
    "model": "builder-tuned",
    "messages": [{"role": "user", "content": "Count."}],
    "max_tokens": 480,
    "temperature": 0,
    "logprobs": True,
    "top_logprobs": 20,
}


@contextlib.contextmanager
def streaming(house, secret, **changes: Any) -> Iterator[Iterator[dict[str, Any]]]:
    """An open stream and its chunks; leaving the block hangs up."""
    with httpx.stream(
        "POST",
        f"{house.address}/v1/chat/completions",
        headers={"Authorization": f"Bearer {secret}"},
        json={**LONG, "stream": True, **changes},
        timeout=60,
    ) as response:
        assert response.status_code == 200
        lines = (line for line in response.iter_lines() if line.startswith("data: {"))
        yield (json.loads(line[6:]) for line in lines)


def until_text(chunks: Iterator[dict[str, Any]]) -> None:
    """Read until some text has been shown."""
    for chunk in chunks:
        if chunk["choices"][0]["delta"].get("content"):
            return


def swept(completion: Completion) -> Completion:
    """Let the lease run out, sweep as beat does, and wait for the end."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        leases.sweep(at=timezone.now())
        completion.refresh_from_db()
        if completion.is_final:
            return completion
        time.sleep(0.2)
    raise AssertionError(f"{completion} did not end")


def test_a_client_that_hangs_up_pays_for_what_was_written(house, live, secret, client_person):
    for _ in range(5):  # the first of all may be ready before a busy web process looks
        with streaming(house, secret) as chunks:
            until_text(chunks)
        done = ended(Completion.objects.order_by("id").last().pk)
        if done.state == "CANCELLED":
            break
    assert done.finish_reason == "cancelled"
    assert 0 < done.completion_tokens < 480
    assert done.fee == (
        done.prompt_tokens * done.input_price + done.completion_tokens * done.output_price
    )
    paid = sum(one.fee for one in Completion.objects.all())
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN - paid
    assert Attribution.objects.filter(completion_id=done.pk).exists()


def test_each_of_many_that_hang_up_is_noticed(house, live, secret):
    """A Redis client that swallowed a cancellation let one in ten run on, and pay."""
    for _ in range(15):
        with streaming(house, secret) as chunks:
            until_text(chunks)
        done = ended(Completion.objects.order_by("id").last().pk)
        assert done.state == "CANCELLED"
        assert done.completion_tokens < 480


def test_a_client_that_does_not_wait_for_the_whole_answer_cancels_it(house, live, secret):
    """Four choices are far from ready by then."""
    body = json.dumps({**LONG, "n": 4})
    client = http.client.HTTPConnection(house.address.removeprefix("http://"))
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    client.request("POST", "/v1/chat/completions", body, headers)
    until(lambda: Completion.objects.filter(state="RUNNING").exists())
    client.close()
    for completion in Completion.objects.all():
        done = ended(completion.pk)
        assert done.state == "CANCELLED"
        assert done.completion_tokens < 480


def test_a_worker_killed_while_it_answers_costs_nothing_and_the_client_is_told(
    house, live, secret, client_person
):
    with streaming(house, secret) as chunks:
        until_text(chunks)
        house.kill("generate")
        try:
            done = swept(Completion.objects.get())
            rest = list(chunks)
        finally:
            house.start("generate")
    assert done.state == "FAILED"
    assert "not charged" in done.failure_reason
    assert rest[-1]["error"]["code"] == "completion_failed"
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN
    assert Hold.objects.get(pk=done.hold_id).state == "RELEASED"
    assert not Attribution.objects.exists()


def test_a_request_that_a_killed_worker_had_not_begun_is_answered_by_the_next(
    house, live, client_person
):
    house.processes["generate"].send_signal(signal.SIGSTOP)
    made = ask_in_process(client_person, live)
    time.sleep(1)  # for the message to reach the worker's socket
    house.kill("generate")
    house.start("generate")
    # The test process has the product's lease of minutes, the house that of seconds.
    Completion.objects.update(lease_expires_at=timezone.now())
    done = swept(made)
    assert done.state == "SUCCEEDED", done.failure_reason
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN - done.fee
    assert Hold.objects.filter(state="CAPTURED").count() == 1


def ask_in_process(payer, deployment) -> Completion:
    return start_completion(
        deployment=deployment,
        question=Question.chat("Hello"),
        sampling=Sampling(max_tokens=5, temperature=0),
        payer=payer,
        acting_user=payer,
        at=timezone.now(),
    )


def test_a_broker_that_forgot_everything_loses_no_request(house, live, client_person):
    house.processes["relay"].send_signal(signal.SIGSTOP)
    made = ask_in_process(client_person, live)
    # Marked as sent, and what was sent is gone.
    outbox.publish_due(send=lambda *_: None, at=timezone.now())
    redis.Redis.from_url(house.environment["REDIS_URL"]).flushall()
    house.processes["relay"].send_signal(signal.SIGCONT)
    Completion.objects.update(lease_expires_at=timezone.now())
    assert swept(made).state == "SUCCEEDED"
