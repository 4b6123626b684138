"""Any server of the OpenAI API: it renders messages itself and tells no token ids."""

from __future__ import annotations

import pytest
from django.utils import timezone

from serving.errors import InvalidRequest
from serving.external import worker
from serving.models import Completion, Deployment, ReplicaKind
from serving.services.deployments import deploy
from tests.serving.external.vllm_server import TEXT


@pytest.fixture
def other(servers, add_replica, external_worker, base, staff) -> Deployment:
    """The base alone, on a server that loads no adapters."""
    servers[0].loads_adapters = servers[0].tells_ids = False
    add_replica(servers[0], "other", kind=ReplicaKind.OPENAI)
    made = deploy(base_model=base, acting_user=staff, at=timezone.now())
    worker.load_deployment(made.pk)
    made.refresh_from_db()
    return made


def test_a_chat_is_asked_as_messages_with_what_differs_from_the_default(other, servers, ask):
    made = ask(other, temperature=0.5)
    asked = servers[0].asked[0]
    assert asked["path"] == "/v1/chat/completions"
    assert asked["messages"] == [{"role": "user", "content": "What is a record?"}]
    assert not {"top_k", "min_p", "return_token_ids", "cache_salt", "prompt"} & set(asked)
    assert (made.state, made.answer) == ("SUCCEEDED", TEXT)


def test_tokens_are_counted_here_and_the_end_is_one_where_it_is_reported(other, servers, ask):
    counted = servers[0].tokenizer.encode(TEXT)
    made = ask(other)
    assert made.answer_ids == counted
    servers[0].usage = {"prompt_tokens": made.prompt_tokens, "completion_tokens": len(counted) + 1}
    end = servers[0].tokenizer.special_id("eos_token")
    assert ask(other).answer_ids == counted + ([end] if end is not None else [])


def test_an_adapter_that_it_was_not_started_with_is_refused(other, make_model, builder, servers):
    made = deploy(model=make_model(), acting_user=builder, at=timezone.now())
    worker.load_deployment(made.pk)
    made.refresh_from_db()
    assert made.state == "STOPPED"
    assert made.failure_reason
    assert "/v1/load_lora_adapter" not in servers[0].calls


def test_probabilities_that_it_cannot_tell_are_refused_before_the_hold(other, start):
    for wish in ({"logprobs": 1}, {"logprobs": 0, "echo": True}):
        with pytest.raises(InvalidRequest, match="do not tell"):
            start(other, **wish)
    assert not Completion.objects.exists()
