"""Held-out figures of the starter and of both baselines, over exactly the same tokens.

`python -m modelfactory.starter.measure --work FOLDER` reads the streams that the training left
there, prints them and adds the figures to training.json.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from modelfactory.starter.ngrams import ORDER, KneserNey, unigram_probabilities
from modelfactory.starter.vocabulary import CONTEXT, SIZE, SPECIAL, load_vocabulary

Losses = NDArray[np.float64]


def model_losses(folder: Path, held_out: NDArray[np.uint16]) -> Losses:
    """Loss in nats of each token but the first of every window, (windows, CONTEXT - 1)."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    count = len(held_out) // CONTEXT
    windows = torch.from_numpy(held_out[: count * CONTEXT].astype(np.int64)).view(count, CONTEXT)
    rows = []
    with torch.inference_mode():
        for part in windows.split(8):
            logits = model(input_ids=part).logits[:, :-1]
            losses = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), part[:, 1:].flatten(), reduction="none"
            )
            rows.append(losses.view(len(part), -1).double().numpy())
    return np.concatenate(rows)


def in_windows(values: NDArray[Any]) -> NDArray[Any]:
    """A value for each token of the stream, as the windows of `model_losses` cut it."""
    count = len(values) // CONTEXT
    return values[: count * CONTEXT].reshape(count, CONTEXT)[:, 1:]


def bytes_of(folder: Path, held_out: NDArray[np.uint16]) -> int:
    """Bytes of text that the predicted tokens stand for; special tokens stand for none."""
    tokenizer = load_vocabulary(folder)
    # In byte-level BPE every character of a token's name is one byte.
    sizes = np.array([len(t or "") for t in tokenizer.convert_ids_to_tokens(list(range(SIZE)))])
    sizes[tokenizer.convert_tokens_to_ids(SPECIAL)] = 0
    count = len(held_out) // CONTEXT
    return int(sizes[held_out[: count * CONTEXT].reshape(count, CONTEXT)[:, 1:]].sum())


def figures(work: Path, folder: Path) -> dict[str, dict[str, float]]:
    training, held_out = np.load(work / "training.npy"), np.load(work / "held_out.npy")
    # The 5-gram sees the training stream's last tokens before the first held-out one.
    led_in = np.r_[training[-ORDER + 1 :], held_out]
    kneser_ney = KneserNey(training, SIZE)
    known = in_windows(kneser_ney.is_known(led_in))
    losses = {
        "unigram": in_windows(-np.log(unigram_probabilities(training, held_out, SIZE))),
        "5-gram": in_windows(-np.log(kneser_ney.probabilities(led_in))),
        "openledger-starter": model_losses(folder, held_out),
    }
    size = bytes_of(folder, held_out)
    return {
        name: {
            "loss": round(float(loss.mean()), 4),
            "perplexity": round(perplexity(loss), 2),
            "bits_per_byte": round(float(loss.sum() / np.log(2) / size), 4),
            "perplexity_after_known_words": round(perplexity(loss[known]), 2),
            "perplexity_after_new_words": round(perplexity(loss[~known]), 2),
            "share_after_new_words": round(float((~known).mean()), 3),
            "tokens": int(loss.size),
        }
        for name, loss in losses.items()
    }


def perplexity(losses: Losses) -> float:
    return float(np.exp(losses.mean()))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path(__file__).parent)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = figures(chosen.work, chosen.model)
    for name, values in found.items():
        print(f"{name:20} {json.dumps(values)}")
    path = chosen.model / "training.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "held_out": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
