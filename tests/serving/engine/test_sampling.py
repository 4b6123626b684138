"""Each setting of a request changes the draw as it says, and probabilities are the model's own."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import jsonschema
import pytest
import torch
from transformers import AutoModelForCausalLM

from serving.engine.sampling import Sampler
from serving.engine.types import BadRequest, Request
from tests.serving.engine.conftest import prompt_of, request, tokens_of

LOGITS = torch.tensor([4.0, 3.0, 2.0, 1.0, -2.0])


def drawn(count: int = 400, prompt: tuple[int, ...] = (4,), **options: Any) -> Counter[int]:
    """How often each token is drawn from LOGITS, each time with another seed."""
    samplers = [Sampler(Request("s", prompt, seed=seed, **options)) for seed in range(count)]
    return Counter(sampler.choose(LOGITS) for sampler in samplers)


def test_top_k_keeps_the_likeliest():
    assert set(drawn(top_k=2)) == {0, 1}
    assert set(drawn(top_k=1, temperature=50.0)) == {0}


def test_top_p_is_measured_within_what_top_k_left():
    # Of two, the first has 0.73.
    assert set(drawn(top_k=2, top_p=0.7)) == {0}
    assert set(drawn(top_k=2, top_p=0.8)) == {0, 1}


def test_min_p_is_a_part_of_the_likeliest():
    # e^-1 = 0.37 and e^-2 = 0.14 of the likeliest one's probability.
    assert set(drawn(min_p=0.3)) == {0, 1}
    assert set(drawn(min_p=0.1)) == {0, 1, 2}
    assert set(drawn(min_p=1.0)) == {0}


def test_temperature_widens_the_draw():
    assert drawn(temperature=0.2)[0] > drawn(temperature=1.0)[0] > drawn(temperature=5.0)[0]


def test_a_bias_forces_and_forbids_tokens():
    assert set(drawn(logit_bias={3: 100.0})) == {3}
    assert 0 not in drawn(logit_bias={0: -100.0})
    assert Sampler(Request("s", (4,), temperature=0.0, logit_bias={0: -5.0})).choose(LOGITS) == 1


def test_frequency_and_presence_penalties_count_the_answer_alone():
    sampler = Sampler(Request("s", (0, 0, 0), temperature=0.0, frequency_penalty=0.6))
    # 4.0 against 3.0: after two of the first, 2.8 is less.
    assert [sampler.choose(LOGITS) for _ in range(4)] == [0, 0, 1, 0]
    sampler = Sampler(Request("s", (0, 0, 0), temperature=0.0, presence_penalty=1.5))
    assert [sampler.choose(LOGITS) for _ in range(4)] == [0, 1, 0, 0]


def test_a_repetition_penalty_counts_the_prompt_too():
    logits = torch.tensor([2.0, 1.5, -1.0, -1.5])
    sampler = Sampler(Request("s", (0,), temperature=0.0, repetition_penalty=2.0))
    assert sampler.choose(logits) == 1
    assert sampler.choose(logits) == 0
    negative = Sampler(Request("s", (0, 1, 2), temperature=0.0, repetition_penalty=3.0))
    assert negative.choose(torch.tensor([-1.0, -1.0, -1.0, -1.5])) == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"top_k": -1}, "top_k"),
        ({"min_p": 1.5}, "min_p"),
        ({"frequency_penalty": 3.0}, "penalty"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"logit_bias": {100_000: 1.0}}, "logit_bias"),
        ({"logit_bias": {1: 101.0}}, "logit_bias"),
        ({"logprobs": 21}, "logprobs"),
    ],
)
def test_it_refuses_settings_without_a_meaning(engine, change, reason):
    with pytest.raises(BadRequest, match=reason):
        engine.generate(request("bad", prompt_of(3), **change))


def test_probabilities_are_those_of_transformers(engine, base_folder):
    prompt = prompt_of(20, seed=6)
    wanted = request("p", prompt, max_tokens=6, logprobs=3, prompt_logprobs=True, owner="p")
    with engine.generate(wanted) as stream:
        answer = list(stream)
        told = [*stream.prompt_logprobs, *(token.logprob for token in answer)]
    ids = prompt + [token.id for token in answer]
    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    assert [one.id for one in told] == ids[1:]
    for one, line in zip(told, expected, strict=True):
        assert one.logprob == pytest.approx(float(line[one.id]), abs=1e-4)
        top = line.topk(3)
        assert [token for token, _ in one.top] == top.indices.tolist()
        assert [value for _, value in one.top] == pytest.approx(top.values.tolist(), abs=1e-4)


def test_a_stop_token_ends_the_answer_and_an_end_token_can_be_ignored(engine):
    prompt = prompt_of(8)
    whole = tokens_of(engine, request("whole", prompt))
    stops = frozenset({whole[4]})
    place = whole.index(whole[4])
    assert tokens_of(engine, request("stop", prompt, stop_ids=stops)) == whole[: place + 1]


SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "kind": {"enum": ["a", "größer"]},
            "name": {"type": "string", "maxLength": 5},
            "ok": {"type": "boolean"},
        },
        "required": ["kind", "name", "ok"],
        "additionalProperties": False,
    }
)


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_a_schema_is_held_whatever_the_model_would_say(engine, temperature):
    for seed in range(3):
        wanted = request(
            f"j{seed}",
            prompt_of(9, seed=seed),
            json_schema=SCHEMA,
            temperature=temperature,
            seed=seed,
            max_tokens=150,
        )
        answer = list(engine.generate(wanted))
        assert answer[-1].finish_reason == "stop"
        text = "".join(token.text for token in answer)
        jsonschema.validate(json.loads(text), json.loads(SCHEMA))


@pytest.mark.parametrize("schema", ["[]", "{", '{"type": "nonsense"}', "{}" * 10_000])
def test_a_schema_that_cannot_be_held_is_refused(engine, schema):
    with pytest.raises(BadRequest, match="schema"):
        engine.generate(request("s", prompt_of(3), json_schema=schema))
