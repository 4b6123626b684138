"""The engine says what transformers and PEFT say."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from serving.engine.engine import Engine
from serving.engine.types import Request
from tests.serving.engine.conftest import prompt_of, request, tokens_of

STARTER = Path(__file__).resolve().parents[3] / "modelfactory" / "starter"
STARTER_TOKENIZER = Tokenizer.from_file(str(STARTER / "tokenizer.json"))


def test_the_base_answers_as_in_transformers(engine, oracle):
    prompt = prompt_of(17)
    assert tokens_of(engine, request("base", prompt, max_tokens=64)) == oracle(prompt, 64)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rank": 7},
        {"use_rslora": True},
        {"use_dora": True},
        {"target_modules": ["q_proj", "down_proj"], "lora_alpha": 3},
        {"alpha_pattern": {"q_proj": 1.5}, "rank_pattern": {"layers.1.mlp.up_proj": 2}},
    ],
    ids=["lora", "odd-rank", "rslora", "dora", "some-modules", "patterns"],
)
def test_an_adapter_answers_as_in_peft(engine, oracle, make_adapter, options):
    name, folder = make_adapter(3, **options)
    prompt = prompt_of(11, seed=1)
    engine.ensure_adapter(name, folder)
    answer = tokens_of(engine, request("tuned", prompt, adapter=name, max_tokens=128))
    assert answer == oracle(prompt, 128, folder)
    assert answer[:48] != oracle(prompt, 48)


def test_a_prompt_of_several_chunks_answers_as_in_transformers(engine, oracle, monkeypatch):
    monkeypatch.setattr("serving.engine.scheduler.PREFILL_ALONE", 8)
    prompt = prompt_of(45, seed=2)
    assert tokens_of(engine, request("long", prompt)) == oracle(prompt, 24)


def test_rows_with_different_adapters_answer_as_alone(engine, oracle, make_adapter):
    made = [make_adapter(seed, rank) for seed, rank in ((5, 2), (6, 8), (7, 4))]
    for name, folder in made:
        engine.ensure_adapter(name, folder)
    names = [None, *(name for name, _ in made)]
    wanted = [
        request(
            f"mixed-{place}",
            prompt_of(5 + 7 * place, seed=place),
            adapter=names[place % 4],
            max_tokens=20 + 5 * (place % 3),
        )
        for place in range(12)
    ]
    alone = [tokens_of(engine, one) for one in wanted]
    with ThreadPoolExecutor(12) as threads:
        together = list(threads.map(lambda one: tokens_of(engine, one), wanted))
    assert together == alone
    folders = [None, *(folder for _, folder in made)]
    for place in range(4):
        one = wanted[place]
        assert alone[place] == oracle(list(one.input_ids), one.max_tokens, folders[place])


def test_a_seed_draws_the_same_tokens_in_any_company(engine):
    def sampled(name: str, seed: int) -> Request:
        return request(name, prompt_of(9), temperature=1.0, top_p=0.9, seed=seed)

    alone = tokens_of(engine, sampled("alone", 11))
    with ThreadPoolExecutor(6) as threads:
        company = list(
            threads.map(lambda seed: tokens_of(engine, sampled(f"s{seed}", seed)), range(9, 15))
        )
    assert company[2] == alone
    assert len({tuple(tokens) for tokens in company}) > 1


def test_the_starter_answers_as_in_transformers():
    """On real weights, where the best token often leads by little, and in whole words."""
    prompt = STARTER_TOKENIZER.encode("<|bos|><|user|>\nWhat does list.append do?<|end|>\n").ids
    model = AutoModelForCausalLM.from_pretrained(STARTER, dtype=torch.float32).eval()
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=48, do_sample=False
        )
    expected = out[0, len(prompt) :].tolist()
    made = Engine(STARTER)
    try:
        answer = list(made.generate(request("starter", prompt, max_tokens=48)))
    finally:
        made.close()
    assert [token.id for token in answer] == expected
    text = "".join(token.text for token in answer)
    assert text == STARTER_TOKENIZER.decode(expected, skip_special_tokens=True)
