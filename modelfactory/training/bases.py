"""What a base model's folder holds, read from its files without loading a weight."""

import hashlib
import json
import re
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from modelfactory.training.prompts import PromptError, load_tokenizer

CHUNK = 1 << 20
HEADER_LIMIT = 100_000_000  # bytes; what safetensors itself refuses beyond
CARD_LIMIT = 60_000  # characters


class BaseFolderError(ValueError):
    """The folder is no usable base model; the text says what is wrong and what to do."""


@dataclass(frozen=True)
class BaseFacts:
    architecture: str
    config: dict[str, Any]
    weights_sha256: str
    parameters: int
    context_length: int
    licence: str
    card: str


def inspect(folder: Path) -> BaseFacts:
    """Check config, tokenizer and weights. Raises BaseFolderError."""
    if not folder.is_dir():
        raise BaseFolderError(f"There is no folder {folder} on the machine of the worker.")
    config = _config(folder)
    try:
        tokenizer = load_tokenizer(folder)
    except PromptError as error:
        raise BaseFolderError(
            f"{error} A base model needs a fast tokenizer (tokenizer.json)."
        ) from error
    files = weight_files(folder)
    vocabulary = int(config.get("vocab_size") or 0)
    if vocabulary and tokenizer.vocabulary_size > vocabulary:
        raise BaseFolderError(
            f"The tokenizer has {tokenizer.vocabulary_size} tokens, the model only {vocabulary}."
        )
    card = _card(folder)
    return BaseFacts(
        architecture=str(config["model_type"]),
        config=config,
        weights_sha256=weights_sha256(files),
        parameters=sum(parameters_in(file) for file in files),
        context_length=_context(config),
        licence=_licence(card),
        card=card,
    )


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except FileNotFoundError as error:
        raise BaseFolderError("config.json is missing: this is no model folder.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BaseFolderError(f"config.json cannot be read: {error}") from error
    if not isinstance(config, dict) or not config.get("model_type"):
        raise BaseFolderError("config.json names no model_type.")
    if config.get("is_encoder_decoder"):
        raise BaseFolderError("This is an encoder-decoder; a base model must be a causal one.")
    if config.get("auto_map"):
        raise BaseFolderError(
            "This model brings code of its own, which is not run here. "
            "Choose one whose architecture transformers knows."
        )
    return config


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files, by name. Raises BaseFolderError where there is none."""
    files = sorted(folder.glob("*.safetensors"))
    if files:
        return files
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise BaseFolderError(
            "The weights are pickled files, which can run code. Convert them to safetensors."
        )
    raise BaseFolderError("There are no weights (*.safetensors) in the folder.")


def weights_sha256(files: list[Path]) -> str:
    """SHA-256 over the lines `<sha256 of the file>  <name>`, as `sha256sum` prints them."""
    total = hashlib.sha256()
    for file in files:
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
        total.update(f"{digest.hexdigest()}  {file.name}\n".encode())
    return total.hexdigest()


def parameters_in(file: Path) -> int:
    """Count the numbers in a safetensors file from its header alone."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > HEADER_LIMIT:
                raise ValueError("the header is too long")
            header = json.loads(stream.read(length))
        return sum(prod(entry["shape"]) for name, entry in header.items() if name[:2] != "__")
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise BaseFolderError(f"{file.name} is no safetensors file: {error}") from error


def _context(config: dict[str, Any]) -> int:
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"):
        if config.get(name):
            return int(config[name])
    raise BaseFolderError("config.json does not tell the context length.")


def _card(folder: Path) -> str:
    try:
        return (folder / "README.md").read_text("utf-8")[:CARD_LIMIT]
    except (OSError, UnicodeDecodeError):
        return ""


def _licence(card: str) -> str:
    """The licence that the model card's header names, "" where it names none."""
    header = re.match(r"---\n(.*?)\n---", card, re.DOTALL)
    found = header and re.search(r"^licen[sc]e:\s*(\S+)", header[1], re.MULTILINE)
    return found[1][:60] if found else ""
