"""Per-example gradients of the LoRA matrices, in one forward and one backward for a batch.

A LoRA matrix is a linear map ``y = x W^T``. The gradient of example ``b`` is the sum over its
tokens of ``dL/dy`` times ``x``, and both are at hand in the backward pass: hooks keep ``x``, see
``dL/dy``, and give both to a *sink*, block by block, so that no weight gradient is ever made and
an activation is let go as soon as it was used. Examples do not mix: the loss is a sum over them.

Padding is on the right. In a causal model it cannot reach an earlier token, so the gradients at
padded places are exactly zero.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from attribution.influence.crew import Crew
from attribution.influence.model import AdaptedModel, Block

Labels = Literal["true", "sampled"]
Sink = Callable[[int, Block, Tensor, Tensor], None]  # (number, block, x, dL/dy)


class Tokens(Protocol):
    """Anything with tokens and a mask of those that are targets of the loss."""

    @property
    def input_ids(self) -> Sequence[int]: ...
    @property
    def loss_mask(self) -> Sequence[int]: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """``ids``, ``present`` and ``targets`` have shape (batch, seq); ``targets[b, t]`` is 1 where
    token t of example b is a target. Where it is a part of a batch, ``before`` targets of its
    ``of`` come before this part's."""

    ids: Tensor
    present: Tensor
    targets: Tensor
    before: int = 0
    of: int | None = None


def make_batch(examples: Sequence[Tokens], device: torch.device) -> Batch:
    length = max(len(example.input_ids) for example in examples)
    ids = torch.zeros(len(examples), length, dtype=torch.long)
    present = torch.zeros(len(examples), length, dtype=torch.long)
    targets = torch.zeros(len(examples), length, dtype=torch.float32)
    for row, example in enumerate(examples):
        count = len(example.input_ids)
        ids[row, :count] = torch.as_tensor(example.input_ids, dtype=torch.long)
        present[row, :count] = 1
        targets[row, :count] = torch.as_tensor(example.loss_mask, dtype=torch.float32)
    return Batch(ids.to(device), present.to(device), targets.to(device))


def share(batch: Batch, crew: Crew) -> Batch:
    """This process's rows; where there are too few, blank ones without any target."""
    if crew.size == 1:
        return batch
    count = len(batch.ids)
    begin, each = crew.rows(count)
    rows = torch.arange(begin, begin + each, device=batch.ids.device)
    is_there = (rows < count)[:, None]
    rows = rows.clamp(max=count - 1)
    targets_of = batch.targets[:, 1:].sum(dim=1)
    return Batch(
        batch.ids[rows],
        batch.present[rows] * is_there,
        batch.targets[rows] * is_there,
        before=int(targets_of[:begin].sum()),
        of=int(targets_of.sum()),
    )


def batches(lengths: Sequence[int], order: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Positions of ``order`` in batches of similar length, ``batch_tokens`` with padding."""
    batch: list[int] = []
    widest = 0
    for position in sorted(order, key=lambda place: (lengths[place], place)):
        widest = max(widest, lengths[position])
        if batch and widest * (len(batch) + 1) > batch_tokens:
            yield batch
            batch, widest = [], lengths[position]
        batch.append(position)
    if batch:
        yield batch


def backward(model: AdaptedModel, batch: Batch, sink: Sink, *, labels: Labels, seed: int) -> None:
    """Run a batch forward and backward, handing each block's tensors to ``sink``.

    The loss is the sum over examples and target tokens of the negative log-likelihood. With
    ``labels="sampled"`` targets are drawn from the model's own distribution, by ``seed``: the
    gradients' second moment is then the true Fisher information.
    """
    if model.passes is not None:
        with model.lock, model.standing():
            model.passes(model, batch, sink, labels, seed)
        return
    with model.lock, model.standing(), torch.enable_grad(), _hooks(model, sink):
        output: Any = model.network(
            input_ids=batch.ids, attention_mask=batch.present, use_cache=False
        )
        mask = batch.targets[:, 1:] > 0  # (batch, seq - 1)
        logits = output.logits[:, :-1][mask].float()  # (targets, vocabulary)
        chosen = batch.ids[:, 1:][mask]
        if labels == "sampled":
            chosen = sample(logits.detach(), seed, batch)
        functional.cross_entropy(logits, chosen, reduction="sum").backward()  # type: ignore[no-untyped-call]


def derived_seed(*parts: object) -> int:
    """A seed that depends on nothing but its parts."""
    digest = hashlib.sha256(" ".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:7], "big")


def per_example(activations: Tensor, output_gradients: Tensor) -> Tensor:
    """(batch, seq, columns) and (batch, seq, rows) -> (batch, rows, columns)."""
    return torch.bmm(output_gradients.transpose(1, 2), activations)


def sample(logits: Tensor, seed: int, batch: Batch) -> Tensor:
    """A label for each of the batch's targets, of shape (targets, vocabulary): those that the
    whole batch would get, where this is a part of it."""
    # The inverse of the cumulative distribution, at numbers drawn on the CPU, where the
    # generator gives the same ones for every device.
    generator = torch.Generator().manual_seed(seed)
    count = len(logits)
    draws = torch.rand(batch.of or count, 1, generator=generator)
    draws = draws[batch.before : batch.before + count].to(logits.device)
    cumulative = torch.softmax(logits, dim=-1).cumsum(dim=-1)
    drawn = torch.searchsorted(cumulative, draws * cumulative[:, -1:])
    return drawn.squeeze(1).clamp_(max=logits.shape[1] - 1)


@contextmanager
def _hooks(model: AdaptedModel, sink: Sink) -> Iterator[None]:
    network: Any = model.network
    handles = [
        network.get_input_embeddings().register_forward_hook(
            lambda module, inputs, output: output.requires_grad_(True)
        )
    ]
    for number, block in enumerate(model.blocks):
        handles.append(block.module.register_forward_hook(_watch(number, block, sink)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _watch(number: int, block: Block, sink: Sink) -> Callable[..., None]:
    def forward_hook(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not output.requires_grad:  # DoRA asks for its weights with a constant input
            return
        activations = inputs[0].detach()

        def backward_hook(gradient: Tensor) -> None:
            sink(number, block, activations, gradient.detach())

        output.register_hook(backward_hook)  # type: ignore[no-untyped-call]

    return forward_hook
