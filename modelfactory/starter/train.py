"""Train the starter base model on the CPU: `python -m modelfactory.starter.train`.

Corpus, vocabulary and token stream are kept in the work folder, so that a stopped training
goes on where its last checkpoint stands. The learning rate follows one cosine per cycle; the
end of each cycle is a model that can be used, and is exported to the output folder.
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from modelfactory.starter.corpus import collect
from modelfactory.starter.vocabulary import (
    CONTEXT,
    SIZE,
    load_vocabulary,
    render,
    train_vocabulary,
)


@dataclass(frozen=True)
class Plan:
    """Everything that decides the result, next to the installed packages."""

    seed: int = 20_26
    cycles: tuple[int, ...] = (400, 2800)  # optimiser steps of each cosine
    batch: int = 4  # rows of CONTEXT tokens
    learning_rate: float = 3e-3
    floor: float = 0.03  # of the learning rate, at the end of a cycle
    warmup: int = 60
    weight_decay: float = 0.1
    clip: float = 1.0


def architecture() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=SIZE,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


def prepare(work: Path, seed: int) -> PreTrainedTokenizerFast:
    """Make vocabulary and token streams once; later calls read them back."""
    if (work / "held_out.npy").exists():
        return load_vocabulary(work)
    corpus = collect(seed=seed)
    tokenizer = train_vocabulary(render(item) for item in corpus.training)
    tokenizer.save_pretrained(work, save_jinja_files=False)
    for name, side in (("training", corpus.training), ("held_out", corpus.held_out)):
        texts = [render(item) for item in side]
        encoded = tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
        stream = list(itertools.chain.from_iterable(e.ids for e in encoded))
        np.save(work / f"{name}.npy", np.array(stream, dtype=np.uint16))
        (work / f"{name}_bytes.txt").write_text(str(sum(len(t.encode()) for t in texts)))
    (work / "sources.json").write_text(json.dumps(corpus.sources, indent=1))
    return tokenizer


def rows(stream: np.ndarray, plan: Plan) -> Iterator[torch.Tensor]:
    """Batches of shape (batch, CONTEXT): every epoch shifts the windows and shuffles them."""
    for epoch in itertools.count():
        order = np.random.default_rng((plan.seed, epoch))
        shift = int(order.integers(CONTEXT)) if epoch else 0
        count = (len(stream) - shift) // CONTEXT
        windows = stream[shift : shift + count * CONTEXT].reshape(count, CONTEXT)
        shuffled = order.permutation(count)
        for start in range(0, count - plan.batch + 1, plan.batch):
            chosen = windows[shuffled[start : start + plan.batch]]
            yield torch.from_numpy(chosen.astype(np.int64))


def learning_rate(step: int, plan: Plan) -> float:
    start = 0
    for cycle in plan.cycles:
        if step < start + cycle:
            break
        start += cycle
    position = (step - start) / cycle
    warm = min(1.0, (step - start + 1) / plan.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, position)))
    return plan.learning_rate * warm * (plan.floor + (1 - plan.floor) * cosine)


def optimiser(model: LlamaForCausalLM, plan: Plan) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": plan.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=plan.learning_rate,
        betas=(0.9, 0.95),
    )


@torch.inference_mode()
def held_out_loss(model: LlamaForCausalLM, stream: np.ndarray) -> tuple[float, int]:
    """Mean loss in nats a predicted token over whole windows, and how many were predicted."""
    count = len(stream) // CONTEXT
    windows = torch.from_numpy(stream[: count * CONTEXT].astype(np.int64)).view(count, CONTEXT)
    total = sum(float(model(input_ids=w, labels=w).loss) * len(w) for w in windows.split(8))
    return total / count, count * (CONTEXT - 1)


def export(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a folder that `AutoModelForCausalLM.from_pretrained` loads, weights in bf16."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.to(torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"  # tied to the embeddings
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.dtype = torch.bfloat16
    model.config.architectures = ["LlamaForCausalLM"]
    model.config.save_pretrained(folder)
    model.config.dtype = torch.float32
    model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)


def train(work: Path, out: Path, plan: Plan) -> None:
    tokenizer = prepare(work, plan.seed)
    training = np.load(work / "training.npy")
    torch.manual_seed(plan.seed)
    model = LlamaForCausalLM(architecture())
    optimizer = optimiser(model, plan)
    step, seconds = resume(work, model, optimizer)
    batches = itertools.islice(rows(training, plan), step, None)
    last, saved = time.monotonic(), time.monotonic()
    ends = set(itertools.accumulate(plan.cycles))
    while step < sum(plan.cycles):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, plan)
        batch = next(batches)
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        now = time.monotonic()
        seconds, last = seconds + now - last, now
        if step % 20 == 0:
            rate = step * plan.batch * CONTEXT / seconds
            print(f"step {step} loss {loss.item():.3f} {rate:.0f} tokens/s", flush=True)
        if step in ends:
            finish_cycle(model, tokenizer, work, out, plan, step, seconds)
        if step in ends or now - saved > 120:
            save(work, model, optimizer, step, seconds)
            saved = now


def finish_cycle(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    work: Path,
    out: Path,
    plan: Plan,
    step: int,
    seconds: float,
) -> None:
    model.eval()
    loss, _ = held_out_loss(model, np.load(work / "held_out.npy"))
    model.train()
    export(model, tokenizer, out)
    figures = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "training_tokens": len(np.load(work / "training.npy")),
        "steps": step,
        "tokens_seen": step * plan.batch * CONTEXT,
        "seconds_on_one_thread": round(seconds),
        "held_out_loss_fp32": round(loss, 4),
        "plan": asdict(plan),
        "sources_characters": json.loads((work / "sources.json").read_text()),
    }
    (out / "training.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(f"exported at step {step}, held-out loss {loss:.4f}", flush=True)


def save(
    work: Path, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, step: int, seconds: float
) -> None:
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "seconds": seconds,
    }
    torch.save(state, work / "checkpoint.new")
    (work / "checkpoint.new").replace(work / "checkpoint.pt")


def resume(
    work: Path, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Take up the last checkpoint; returns its step and the seconds spent so far."""
    if not (work / "checkpoint.pt").exists():
        return 0, 0.0
    state = torch.load(work / "checkpoint.pt", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"]), float(state["seconds"])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for the corpus and state")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="model folder")
    parser.add_argument("--cycles", default=",".join(map(str, Plan.cycles)))
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    chosen.work.mkdir(parents=True, exist_ok=True)
    cycles = tuple(int(part) for part in chosen.cycles.split(","))
    train(chosen.work, chosen.out, Plan(cycles=cycles))


if __name__ == "__main__":
    main()
