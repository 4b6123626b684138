"""A tiny random Llama with a random LoRA adapter, and records of its vocabulary."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from attribution.influence.config import InfluenceConfig  # noqa: E402
from attribution.influence.examples import IndexedExample  # noqa: E402
from attribution.influence.model import AdaptedModel, load  # noqa: E402

VOCABULARY = 48
torch.set_num_threads(1)  # two threads on busy cores are many times slower than one


def save_tiny_adapter(folder: Path, *, seed: int = 0, **lora) -> tuple[Path, Path]:
    """Write base/ and adapter/ under `folder`."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    base = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=32,
            initializer_range=0.3,
        )
    )
    base.save_pretrained(folder / "base")
    options = {"r": 3, "target_modules": "all-linear", "init_lora_weights": False} | lora
    get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **options)).save_pretrained(
        str(folder / "adapter")
    )
    return folder / "base", folder / "adapter"


def tiny_examples(count: int = 24, groups: int = 3, seed: int = 0) -> list[IndexedExample]:
    draw = np.random.default_rng(seed)
    made = []
    for number in range(count):
        length = int(draw.integers(4, 20))
        prompt = int(draw.integers(1, length - 1))
        made.append(
            IndexedExample(
                record_id=f"record-{number:03d}",
                group_id=f"group-{number % groups}",
                input_ids=[int(token) for token in draw.integers(0, VOCABULARY, length)],
                loss_mask=[0] * prompt + [1] * (length - prompt),
            )
        )
    return made


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    return save_tiny_adapter(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def model(folders) -> AdaptedModel:
    return load(*folders, "cpu")


@pytest.fixture
def config() -> InfluenceConfig:
    return InfluenceConfig(fit_min=12, shard_records=7, batch_tokens=48)
