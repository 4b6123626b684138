"""A tiny random Llama in a folder, with a real byte-level tokenizer, and adapters for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from serving.engine.adapters import CONFIG_FILE, WEIGHTS_FILE, adapter_name, file_sha256
from serving.engine.engine import Engine
from serving.engine.native.build import library
from serving.engine.types import Request

CORPUS = [
    "every answer that a model gives pays the people whose data shaped it",
    "größer, schöner, weiter — 日本語のテキスト und 🙂🙃 emoji",
    "def add(a, b):\n    return a + b\n",
]
SPECIAL = ["<|bos|>", "<|end|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>"]
CONTEXT = 192


def build_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        CORPUS * 4,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tokenizer = build_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=112,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """The oracle's tiny products are much slower where two threads share a busy core."""
    torch.set_num_threads(1)


AdapterMaker = Callable[..., tuple[str, Path]]


@pytest.fixture(scope="session")
def make_adapter(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AdapterMaker:
    """Returns (content hash, folder) of a random adapter made by PEFT."""

    def make(seed: int, rank: int = 4, **options: Any) -> tuple[str, Path]:
        folder = tmp_path_factory.mktemp("adapter")
        torch.manual_seed(seed)
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32),
            LoraConfig(
                **{
                    "r": rank,
                    "lora_alpha": rank * 2,
                    "target_modules": "all-linear",
                    "task_type": "CAUSAL_LM",
                    **options,
                }
            ),
        )
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.2)
        model.save_pretrained(folder)
        return name_of(folder), folder

    return make


def name_of(folder: Path) -> str:
    config = json.loads((folder / CONFIG_FILE).read_text())
    return adapter_name(file_sha256(folder / WEIGHTS_FILE), config)


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy of an adapter that a test may spoil."""

    def copy(folder: Path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / "copy"))

    return copy


BACKENDS = [
    pytest.param(
        "native", marks=pytest.mark.skipif(library() is None, reason="needs a C++ compiler")
    ),
    "transformers",
]


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def engine(base_folder: Path, backend: str) -> Iterator[Engine]:
    made = Engine(base_folder, threads=1, max_active=8, base_sha256="1" * 64, backend=backend)
    yield made
    made.close()


def rounded(model: torch.nn.Module) -> torch.nn.Module:
    """PEFT's adapters with their matrices as the engine holds them."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                parameter.copy_(parameter.bfloat16())
    return model


@pytest.fixture(scope="session")
def oracle(base_folder: Path) -> Callable[..., list[int]]:
    """Greedy tokens of transformers and PEFT."""

    def greedy(prompt: list[int], count: int, adapter: Path | None = None) -> list[int]:
        model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
        if adapter is not None:
            model = rounded(PeftModel.from_pretrained(model, adapter))
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            out = model.eval().generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=count,
                do_sample=False,
                pad_token_id=2,
            )
        return [int(token) for token in out[0, len(prompt) :]]

    return greedy


def prompt_of(length: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(6, 262, (length,), generator=generator).tolist()


def request(name: str, prompt: list[int], **options: Any) -> Request:
    settings: dict[str, Any] = {"max_tokens": 24, "temperature": 0.0, **options}
    return Request(request_id=name, input_ids=tuple(prompt), **settings)


def tokens_of(engine: Engine, wanted: Request) -> list[int]:
    return [token.id for token in engine.generate(wanted) if token.id is not None]
