"""Clients that others wrote for the OpenAI API work against ours unchanged."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from serving.models import Completion
from tests.serving.conftest import STARTER

MESSAGES = [{"role": "user", "content": "What does a contributor do?"}]


def test_litellm_asks_and_streams(house, live, secret, monkeypatch):
    # Else importing it asks a server of theirs for prices of models.
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    options = {
        "model": "openai/builder-tuned",
        "api_base": f"{house.address}/v1",
        "api_key": secret,
        "messages": MESSAGES,
        "max_tokens": 8,
        "temperature": 0,
    }
    whole = litellm.completion(**options)
    made = Completion.objects.get()
    assert whole.choices[0].message.content == made.answer
    assert whole.usage.total_tokens == made.prompt_tokens + made.completion_tokens
    stream = litellm.completion(**options, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(pieces) == made.answer


def test_lm_eval_measures_what_the_base_itself_says(house, live, secret, monkeypatch):
    """Its `local-completions` model: likelihoods of given answers, and answers up to a stop."""
    pytest.importorskip("lm_eval", reason="`pip install .[evals]` brings lm-eval")
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    monkeypatch.setenv("OPENAI_API_KEY", secret)
    client = LocalCompletionsAPI(
        base_url=f"{house.address}/v1/completions",
        model="starter",
        tokenizer=str(STARTER),
        tokenizer_backend="huggingface",
        max_length=512,
    )
    pairs = [("A Datanet is", " a set of records"), ("The list method append", " adds")]
    wishes = [SimpleNamespace(args=pair, arguments=pair) for pair in pairs]
    found = client.loglikelihood(wishes, disable_tqdm=True)
    for (context, answer), (value, _) in zip(pairs, found, strict=True):
        assert value == pytest.approx(_likelihood(context, answer), abs=2e-3)
    until = ("A Datanet is", {"until": ["\n"], "max_gen_toks": 4, "do_sample": False})
    (text,) = client.generate_until([SimpleNamespace(args=until)], disable_tqdm=True)
    assert text == Completion.objects.order_by("-id")[0].answer


def _likelihood(context: str, answer: str) -> float:
    """By transformers: the natural logarithm of the answer's probability after the context."""
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    model = AutoModelForCausalLM.from_pretrained(STARTER, dtype=torch.float32)
    before = len(tokenizer(context, add_special_tokens=False).input_ids)
    ids = torch.tensor([tokenizer(context + answer, add_special_tokens=False).input_ids])
    with torch.inference_mode():
        told = model(ids).logits[0, :-1].log_softmax(-1)
    chosen = told.gather(1, ids[0, 1:, None])[:, 0]
    return float(chosen[before - 1 :].sum())
