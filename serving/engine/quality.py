"""Whether a base in 8 bits says what it says in float32, on the model's own evaluation.

A base brings its evaluation with it: `evaluation.json` in its folder, a list of texts that it was
not trained on. Each token's prediction is compared, given the text before it. Random weights have
no evaluation and pass no gate.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from serving.engine.backend import Backend, Batch

EVALUATION_FILE = "evaluation.json"
FEWEST_TOKENS = 1_000
MOST_TOKENS = 16_000
HIGHEST_PERPLEXITY = 1.01  # of that in float32
LOWEST_AGREEMENT = 0.98
PIECE = 256  # tokens of a step

Texts = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Quality:
    """`perplexity` is a ratio to float32, `agreement` the share of tokens with the same best."""

    perplexity: float
    agreement: float
    tokens: int

    @property
    def passes(self) -> bool:
        return (
            self.tokens >= FEWEST_TOKENS
            and self.perplexity <= HIGHEST_PERPLEXITY
            and self.agreement >= LOWEST_AGREEMENT
        )


def evaluation_of(base_folder: Path) -> list[list[int]]:
    """Tokens of the base's own evaluation, none where it has none.

    Raises ValueError where the file is no list of texts.
    """
    path = base_folder / EVALUATION_FILE
    if not path.is_file():
        return []
    texts = json.loads(path.read_text("utf-8"))
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{path} is not a list of texts.")
    tokenizer = Tokenizer.from_file(str(base_folder / "tokenizer.json"))
    tokenizer.no_truncation()
    found: list[list[int]] = []
    for text in texts:
        found.append(tokenizer.encode(text).ids)
        if sum(map(len, found)) >= MOST_TOKENS:
            break
    return found


def compare(whole: Backend, small: Backend, texts: Texts, context: int) -> Quality:
    """Both are idle; their slot 0 is used. Cost: every text through both."""
    losses, same, count = [0.0, 0.0], 0, 0
    for text in texts:
        ids = list(text[:context])
        if len(ids) < 2:
            continue
        bests = []
        for place, backend in enumerate((whole, small)):
            logits = _logits(backend, ids[:-1])
            wanted = torch.tensor(ids[1:])[:, None]
            chosen = torch.log_softmax(logits.double(), -1).gather(1, wanted)
            losses[place] -= float(chosen.sum())
            bests.append(logits.argmax(-1))
        same += int((bests[0] == bests[1]).sum())
        count += len(ids) - 1
    if not count:
        return Quality(math.inf, 0.0, 0)
    return Quality(math.exp((losses[1] - losses[0]) / count), same / count, count)


def kept(file: Path, about: dict[str, str]) -> Quality | None:
    """What was found for the same weights, texts and arithmetic before."""
    try:
        found = json.loads(file.read_text())
        return Quality(**found["quality"]) if found["about"] == about else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(file: Path, about: dict[str, str], quality: Quality) -> None:
    file.write_text(json.dumps({"about": about, "quality": asdict(quality)}))


def digest(texts: Texts) -> str:
    return hashlib.sha256(json.dumps([list(text) for text in texts]).encode()).hexdigest()


def _logits(backend: Backend, ids: list[int]) -> torch.Tensor:
    size = backend.page_size
    backend.place(0, list(range(-(-len(ids) // size))), None)
    pieces = []
    for start in range(0, len(ids), PIECE):
        piece = np.array(ids[start : start + PIECE], np.int32)
        places = np.arange(len(piece), dtype=np.int32)
        pieces.append(backend.forward(Batch(piece, places + start, places * 0, places)))
    return torch.cat(pieces)
