"""From records to a LoRA adapter, reading top to bottom.

`run(folder)` does a whole job: check the records, split them, train, evaluate before and after.
It can be stopped at any step and goes on where its checkpoint stands, to the same bits.
One process and one device; batches are made of records of like length.
"""

import math
import resource
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from modelfactory.training.adapters import adapt, load_base, save_adapter
from modelfactory.training.batches import Batch, collate, plan_epoch
from modelfactory.training.checkpoints import Progress, load_checkpoint, save_checkpoint
from modelfactory.training.data import Item, examine, read_rows, split, usable
from modelfactory.training.evaluate import HeldOut, answer, compare, held_out_loss, questions
from modelfactory.training.job import (
    Events,
    Exit,
    Job,
    JobError,
    Kind,
    Stop,
    alone_in,
    kept_folder,
    write_json,
)
from modelfactory.training.parents import read_parent, start_from
from modelfactory.training.prompts import PromptError, PromptTokenizer, load_tokenizer
from modelfactory.training.recipe import Recipe, RecipeError

EVALUATIONS = 6  # points of the held-out curve
POINTS = 200  # points of the training curve


@dataclass
class Training:
    """Everything one job holds while it runs."""

    job: Job
    recipe: Recipe
    folder: Path
    events: Events
    tokenizer: PromptTokenizer
    training: list[Item]
    held_out: list[Item]
    model: Any
    optimizer: torch.optim.Optimizer
    pad: int
    context: int
    schedule: list[list[list[list[list[int]]]]]  # epoch, step, pass, row, item number
    progress: Progress = field(default_factory=Progress)

    @property
    def steps(self) -> int:
        return sum(len(epoch) for epoch in self.schedule)

    def emit(self, kind: Kind, **data: Any) -> None:
        self.events.emit(kind, step=self.progress.step, **data)


def run(folder: Path) -> Exit:
    """Do the job in `folder`; failures become an event that says why and what to do."""
    job = Job.read(folder)
    stop = Stop()
    try:
        with alone_in(folder):
            return _run(folder, job, stop)
    except Exception as error:
        events = Events(folder, job.first_sequence)
        events.emit(Kind.FAILED, step=0, reason=explain(error), trace=traceback.format_exc())
        return Exit.FAILED


def explain(error: Exception) -> str:
    """What went wrong, for a person who can change the recipe or the data."""
    if isinstance(error, JobError | PromptError | RecipeError | ValueError):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "The device ran out of memory. Lower the batch size or the cutoff length."
    return f"The training stopped with {type(error).__name__}: {error}"


def _run(folder: Path, job: Job, stop: Stop) -> Exit:
    torch.set_num_threads(job.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    state = prepare(folder, job)
    if load_checkpoint(folder, state.model, state.optimizer, state.progress, job.device):
        state.emit(Kind.RESUMED, message=f"Going on at step {state.progress.step}.")
    else:
        announce(state)
    if not train(state, stop):
        save_checkpoint(folder, state.model, state.optimizer, state.progress)
        state.emit(Kind.STOPPED, message="Stopped; a checkpoint stands.")
        return Exit.STOPPED
    save_adapter(state.model, state.folder / "adapter")
    finish(state)
    return Exit.FINISHED


def prepare(folder: Path, job: Job) -> Training:
    """Check and split the records, load the base model, put the adapter on it."""
    recipe = job.parsed_recipe()
    tokenizer = load_tokenizer(job.base_folder)
    items, findings = examine(read_rows(folder / "records.jsonl"), tokenizer, cutoff=recipe.cutoff)
    aside = held_out_of(items, job, recipe)
    held_out = set(aside)
    write_json(
        folder / "split.json", {"held_out": aside, "findings": [asdict(f) for f in findings]}
    )
    training = [i for i in items if i.record not in held_out]
    torch.manual_seed(recipe.seed)
    model = adapt(load_base(job), job, recipe)
    if job.parents:
        start_from(
            model,
            [read_parent(folder / f"parents/{n}", w) for n, w in enumerate(job.parents)],
        )
    parameters = [p for p in model.parameters() if p.requires_grad]
    config = model.config
    return Training(
        job=job,
        recipe=recipe,
        folder=folder,
        events=Events(folder, job.first_sequence),
        tokenizer=tokenizer,
        training=training,
        held_out=[i for i in items if i.record in held_out],
        model=model,
        optimizer=torch.optim.AdamW(
            parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        ),
        pad=tokenizer.special_id("pad_token") or 0,
        context=int(getattr(config, "max_position_embeddings", 0) or 1024),
        schedule=[]
        if job.is_merge
        else [steps_of(plan_epoch(training, recipe, e), recipe) for e in range(recipe.epochs)],
    )


def held_out_of(items: list[Item], job: Job, recipe: Recipe) -> list[str]:
    """Ids of the records that measure the result. Raises ValueError where there are too few."""
    records = [item.record for item in items]
    if job.is_merge:
        if not records:
            raise ValueError("No held-out record of the parents can be read, so that it would not "
                             "be known how good the merge is.")  # fmt: skip
        return list(dict.fromkeys(records))
    usable(items, recipe)
    return split(records, fraction=recipe.validation_fraction, seed=recipe.seed)[1]


def steps_of(batches: list[list[list[int]]], recipe: Recipe) -> list[list[list[list[int]]]]:
    """Group an epoch's passes into optimiser steps."""
    size = recipe.gradient_accumulation
    return [batches[at : at + size] for at in range(0, len(batches), size)]


def announce(state: Training) -> None:
    """The state before the first step: its figures, and the base model's held-out loss."""
    state.emit(
        Kind.STARTED,
        steps=state.steps,
        epochs=state.recipe.epochs,
        training_records=len(state.training),
        held_out_records=len(state.held_out),
        trainable_parameters=sum(p.numel() for p in state.model.parameters() if p.requires_grad),
        device=state.job.device,
        dtype=state.job.dtype,
        torch=torch.__version__,
    )
    with state.model.disable_adapter():
        before = measure(state)
    state.progress.before = {"loss": before.loss, "by_record": before.by_record}
    if state.job.parents and not state.job.is_merge:
        state.progress.before["parent_loss"] = measure(state).loss


def measure(state: Training) -> HeldOut:
    with autocast(state.job):
        result = held_out_loss(state.model, state.held_out, pad=state.pad, device=state.job.device)
    state.emit(Kind.EVALUATION, **result.to_json())
    state.progress.last_evaluation = state.progress.step
    return result


def autocast(job: Job) -> torch.autocast:
    return torch.autocast(
        job.device, dtype=torch.bfloat16, enabled=job.dtype == "bfloat16" and job.device == "cuda"
    )


def train(state: Training, stop: Stop) -> bool:
    """Take all steps that are left; False where it was told to stop."""
    progress, saved = state.progress, time.monotonic()
    every = max(1, state.steps // EVALUATIONS)
    shown = max(1, state.steps // POINTS)
    order = [step for epoch in state.schedule for step in epoch]
    kept = stretches(state.steps, state.recipe)[:-1]  # the last is the adapter itself
    while progress.step < state.steps:
        if stop:
            return False
        started = time.monotonic()
        loss, norm, tokens = take_step(state, order[progress.step])
        progress.step += 1
        progress.seconds += time.monotonic() - started
        progress.tokens += tokens
        if progress.step in kept:
            save_adapter(state.model, kept_folder(state.folder, kept.index(progress.step)))
        if progress.step % shown == 0 or progress.step == state.steps:
            report(state, loss, norm)
        if progress.step % every == 0 and progress.step < state.steps:
            measure(state)
        if time.monotonic() - saved > state.job.checkpoint_seconds:
            save_checkpoint(state.folder, state.model, state.optimizer, progress)
            state.emit(Kind.CHECKPOINT)
            saved = time.monotonic()
    return True


def take_step(state: Training, passes: list[list[list[int]]]) -> tuple[float, float, int]:
    """One optimiser step over its passes; returns loss, gradient norm and tokens read."""
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(state.progress.step, state.steps, state.recipe)
    batches = [collate(rows, state.training, state.pad) for rows in passes]
    predicted = max(1, sum(batch.predicted for batch in batches))
    total = 0.0
    for batch in batches:
        loss = batch_loss(state, batch.to(state.job.device)) / predicted
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    if not math.isfinite(total):
        raise JobError(
            f"The loss became infinite at step {state.progress.step + 1}. "
            "Lower the learning rate, or lengthen the warm-up."
        )
    norm = torch.nn.utils.clip_grad_norm_(
        [p for p in state.model.parameters() if p.requires_grad], state.recipe.max_gradient_norm
    )
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    return total, float(norm), sum(batch.tokens for batch in batches)


def batch_loss(state: Training, batch: Batch) -> torch.Tensor:
    """Summed loss over the predicted tokens of one pass."""
    with autocast(state.job):
        logits = state.model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask.to(mask_dtype(batch, state.model)),
            position_ids=batch.position_ids,
            use_cache=False,
        ).logits
    # (rows x length - 1, vocabulary) against the next token
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), batch.labels[:, 1:].flatten(), reduction="sum"
    )


def mask_dtype(batch: Batch, model: Any) -> torch.dtype:
    return model.dtype if batch.attention_mask.ndim == 4 else torch.long


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    """Rate for the step numbered from 0: linear warm-up, then the scheduler to zero."""
    warm = math.ceil(recipe.warmup * steps)
    if step < warm:
        return recipe.learning_rate * (step + 1) / warm
    left = 1 - (step - warm) / max(1, steps - warm)
    factor = {
        "cosine": 0.5 * (1 + math.cos(math.pi * (1 - left))),
        "linear": left,
        "constant": 1.0,
    }[recipe.scheduler]
    return recipe.learning_rate * factor


def stretches(steps: int, recipe: Recipe) -> list[int]:
    """The steps after which a state is kept for attribution, equally far apart, the last one the
    end; fewer than asked for where there are fewer steps."""
    ends = (round(steps * place / recipe.checkpoints) for place in range(1, recipe.checkpoints + 1))
    return sorted({end for end in ends if end > 0})


def kept_states(state: Training) -> list[dict[str, Any]]:
    """Each kept state's step and the learning rates since the one before, added up; nothing
    where the adapter alone is attributed."""
    ends = stretches(state.steps, state.recipe)
    if len(ends) < 2:
        return []
    rates = [learning_rate(step, state.steps, state.recipe) for step in range(state.steps)]
    return [
        {"step": end, "rates": sum(rates[begin:end])}
        for begin, end in zip([0, *ends[:-1]], ends, strict=True)
    ]


def report(state: Training, loss: float, norm: float) -> None:
    progress = state.progress
    state.emit(
        Kind.PROGRESS,
        loss=loss,
        gradient_norm=norm,
        learning_rate=state.optimizer.param_groups[0]["lr"],
        epoch=progress.epoch(state.schedule),
        steps=state.steps,
        tokens=progress.tokens,
        tokens_per_second=progress.tokens / max(1e-9, progress.seconds),
        memory_bytes=memory_in_use(state.job.device),
        eta_seconds=(state.steps - progress.step) * progress.seconds / max(1, progress.step),
    )


def memory_in_use(device: str) -> int:
    """Peak bytes on the GPU, or of this process on a CPU."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def finish(state: Training) -> None:
    """Evaluate before and after on the same held-out records, and write the result."""
    after = measure(state)
    before = state.progress.before
    asked = questions(state.held_out, state.job.samples)
    options: dict[str, Any] = {
        "context": state.context,
        "tokens": state.job.answer_tokens,
        "device": state.job.device,
    }
    with autocast(state.job):
        tuned = answer(state.model, asked, state.tokenizer, **options)
        with state.model.disable_adapter():
            base = answer(state.model, asked, state.tokenizer, **options)
    changes = sorted(
        ((after.by_record[r] - loss, r) for r, loss in before["by_record"].items()),
    )
    evaluation = {
        "held_out_records": len(state.held_out),
        "held_out_tokens": after.tokens,
        "loss_before": before["loss"],
        "loss_after": after.loss,
        "perplexity_before": math.exp(min(before["loss"], 700.0)),
        "perplexity_after": after.perplexity,
        "answers": compare(base, tuned),
        "most_improved": [{"record": r, "change": c} for c, r in changes[:5]],
        "least_improved": [{"record": r, "change": c} for c, r in changes[::-1][:5]],
    }
    if "parent_loss" in before:
        evaluation["loss_parent"] = before["parent_loss"]
    result = {
        "evaluation": evaluation,
        "steps": state.steps,
        "tokens": state.progress.tokens,
        "seconds": state.progress.seconds,
        "tokens_per_second": state.progress.tokens / max(1e-9, state.progress.seconds),
        "memory_bytes": memory_in_use(state.job.device),
    }
    if states := kept_states(state):
        result["checkpoints"] = states
    write_json(state.folder / "result.json", result)
    state.emit(Kind.FINISHED, loss_before=before["loss"], loss_after=after.loss)
