"""Whatever somebody sends, it is answered to them alone: others' tokens stay the same."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import openai
import pytest
import torch
from django.utils import timezone
from safetensors.torch import load, save

from accounts.blobs import open_blob, put_bytes
from serving.models import Completion, Deployment
from serving.services import deployments
from tests.serving.live.conftest import until
from tests.serving.live.test_going_away import LONG, streaming, until_text

STEADY = {**LONG, "max_tokens": 120, "messages": [{"role": "user", "content": "Say something."}]}


@contextmanager
def steady(client: openai.OpenAI, asked: dict[str, Any]) -> Iterator[list[str]]:
    """The same question again and again, by somebody who does nothing wrong."""
    answers: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            answers.append(answer_of(client, asked))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        done.set()
        thread.join()


def answer_of(client: openai.OpenAI, asked: dict[str, Any]) -> str:
    return client.chat.completions.create(**asked).choices[0].message.content


def pickled(weights: bytes) -> bytes:
    import io

    file = io.BytesIO()
    torch.save(load(weights), file)
    return file.getvalue()


def changed(weights: bytes, change) -> bytes:
    tensors = load(weights)
    first = sorted(tensors)[0]
    tensors[first] = change(tensors[first])
    return save(tensors)


BAD_WEIGHTS = {
    "pickle": pickled,
    "shape": lambda weights: changed(weights, lambda tensor: tensor[:, :-1].contiguous()),
    "nan": lambda weights: changed(weights, lambda tensor: tensor * float("nan")),
}


def test_bad_adapters_are_refused_with_a_reason_and_disturb_nobody(
    client, live, make_model, builder
):
    alone = answer_of(client, STEADY)
    with open_blob(live.model.adapter_sha256) as file:
        weights = file.read()
    with steady(client, STEADY) as answers:
        bad = []
        for name, spoil in BAD_WEIGHTS.items():
            blob = put_bytes(spoil(weights), "application/octet-stream")
            bad.append(make_model(name, adapter_sha256=blob.sha256))
        config = {**live.model.adapter_config, "base_weights_sha256": "0" * 64}
        bad.append(make_model("otherbase", adapter_config=config))
        made = [
            deployments.deploy(model=one, acting_user=builder, at=timezone.now()) for one in bad
        ]
        ids = [one.pk for one in made]
        until(lambda: not Deployment.objects.filter(pk__in=ids, state="REQUESTED").exists(), 60)
    rows = Deployment.objects.filter(pk__in=ids).values_list("state", "failure_reason")
    assert {state for state, _ in rows} == {"STOPPED"}
    reasons = " ".join(reason for _, reason in rows)
    for word in ("header too large", "255 to 256 in the adapter", "finite", "other base"):
        assert word in reasons, reasons
    assert answers
    assert set(answers) == {alone}


def test_bad_requests_and_clients_that_go_or_read_slowly_disturb_nobody(
    house, client, live, secret, builder
):
    asked = {**STEADY, "model": "starter"}
    alone = answer_of(client, asked)
    with steady(client, asked) as answers:
        for wrong in (
            {"max_tokens": 600},
            {"messages": [{"role": "user", "content": "a " * 2_000}]},
        ):
            with pytest.raises(openai.BadRequestError) as raised:
                client.chat.completions.create(**{**STEADY, **wrong})
            assert raised.value.code == "context_length_exceeded"
        with streaming(house, secret) as chunks:
            until_text(chunks)
        slow = slowly(house, secret)
        # Its adapter goes out of service while it is read: what has begun comes to its end.
        with streaming(house, secret) as chunks:
            until_text(chunks)
            deployments.stop(deployment=live, acting_user=builder, at=timezone.now())
            rest = list(chunks)
        Deployment.objects.filter(pk=live.pk).update(state="LIVE")
        assert rest[-1]["choices"][0]["finish_reason"] == "length"
    assert (
        slow == Completion.objects.filter(state="SUCCEEDED", completion_tokens=480).first().answer
    )
    assert answers
    assert set(answers) == {alone}


def slowly(house, secret) -> str:
    """An answer that is read long after it was written."""
    with httpx.stream(
        "POST",
        f"{house.address}/v1/chat/completions",
        headers={"Authorization": f"Bearer {secret}"},
        json={**LONG, "stream": True},
        timeout=60,
    ) as response:
        time.sleep(2)
        lines = [line for line in response.iter_lines() if line.startswith("data: {")]
    deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in lines]
    return "".join(delta.get("content") or "" for delta in deltas)


def test_a_key_that_is_revoked_opens_nothing_from_the_next_request_on(client, live, client_person):
    from accounts import api_keys
    from accounts.models import ApiKey

    client.chat.completions.create(**{**STEADY, "max_tokens": 1})
    key = ApiKey.objects.get()
    api_keys.revoke_key(key=key, acting_user=client_person, at=timezone.now())
    with pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(**{**STEADY, "max_tokens": 1})
