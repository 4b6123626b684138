"""A base model so small that a training takes a second, and jobs on it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from modelfactory.training.job import Job

STARTER = Path(__file__).resolve().parents[3] / "modelfactory" / "starter"
COLOURS = ["red", "blue", "green", "grey", "white", "black", "brown"]


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(STARTER / name, folder / name)
    return folder


def payload(number: int) -> dict[str, Any]:
    colour = COLOURS[number % len(COLOURS)]
    return {
        "messages": [
            {"role": "user", "content": f"What colour is door {number}?"},
            {"role": "assistant", "content": f"Door {number} is {colour}." * (1 + number % 3)},
        ]
    }


@pytest.fixture
def make_job(tiny_base: Path, tmp_path: Path):
    """Write a job folder: `make_job("a", records=20, epochs=2)`."""

    def make(name: str = "job", records: int = 20, **recipe: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        with (folder / "records.jsonl").open("w") as out:
            for number in range(records):
                line = {"record": f"record-{number}", "payload": payload(number)}
                out.write(json.dumps(line) + "\n")
        wanted = {"batch_size": 4, "cutoff": 64, "epochs": 1, "rank": 2, **recipe}
        Job(
            base_folder=str(tiny_base),
            base_name="openledger/tiny",
            recipe=wanted,
            samples=2,
            answer_tokens=4,
        ).write(folder)
        return folder

    return make
