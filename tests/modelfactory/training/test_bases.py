"""A base model's folder is read without loading it, and a bad one says what is wrong."""

import hashlib
import json
import shutil

import pytest

from modelfactory.training.bases import BaseFolderError, inspect
from tests.modelfactory.training.conftest import STARTER


@pytest.fixture
def folder(tiny_base, tmp_path):
    return shutil.copytree(tiny_base, tmp_path / "base")


def test_it_reads_the_starter():
    facts = inspect(STARTER)
    assert facts.architecture == "llama"
    assert facts.context_length == 512
    assert facts.parameters == 4_000_000
    assert facts.licence == "apache-2.0"
    digest = hashlib.sha256((STARTER / "model.safetensors").read_bytes()).hexdigest()
    line = f"{digest}  model.safetensors\n"
    assert facts.weights_sha256 == hashlib.sha256(line.encode()).hexdigest()


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: shutil.rmtree(f), "no folder"),
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), "cannot be read"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "fast tokenizer"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 40), "no safetensors file"),
        (lambda f: (f / "model.safetensors").rename(f / "model.bin"), "can run code"),
        (lambda f: (f / "model.safetensors").unlink(), "no weights"),
        (lambda f: change_config(f, auto_map={"AutoModel": "x.y"}), "code of its own"),
        (lambda f: change_config(f, is_encoder_decoder=True), "encoder-decoder"),
        (lambda f: change_config(f, vocab_size=100), "tokenizer has 4096 tokens"),
    ],
)
def test_a_bad_folder_says_what_is_wrong(folder, spoil, said):
    spoil(folder)
    with pytest.raises(BaseFolderError, match=said):
        inspect(folder)
