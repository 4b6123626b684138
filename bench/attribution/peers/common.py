"""The network and its examples as most peers want them."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from attribution.influence.examples import IndexedExample
from attribution.influence.gradients import make_batch

BATCH = 16
IGNORED = -100  # a label that is no target


class Peer(Protocol):
    """A method of others. ``bytes_per_record`` is what it keeps of each record once it is fitted;
    a method that keeps nothing makes all gradients again for each call of ``matrix``."""

    bytes_per_record: float

    def fit(self, records: Sequence[IndexedExample]) -> None: ...

    def matrix(self, queries: Sequence[IndexedExample]) -> NDArray[np.float64]:
        """(queries, records), positive where a record helped."""
        ...


class Answering(nn.Module):
    """A copy of the network in which nothing is a parameter but the adapter's matrices, with
    ``ids`` (batch, seq) in and logits (batch, vocabulary, seq - 1) out. With ``through`` gradients
    go on to the embeddings."""

    def __init__(self, network: Any, through: bool = False) -> None:
        super().__init__()
        self._through = through
        self.network = copy.deepcopy(network).eval()
        self.matrices: list[str] = []
        for name, module in self.network.named_modules():
            module._forward_hooks.clear()
            if isinstance(module, nn.Linear) and name.split(".")[-2] in ("lora_A", "lora_B"):
                self.matrices.append(f"network.{name}")
                module.weight.requires_grad_(True)
                continue
            for which, parameter in list(module.named_parameters(recurse=False)):
                delattr(module, which)
                module.register_buffer(which, parameter.detach())

    def forward(self, ids: Tensor) -> Tensor:
        # Attention is told by hand: the library's own masks are made by tricks that vmap refuses.
        length = ids.shape[-1]
        mask = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)
        mask = mask.expand(ids.shape[0], 1, length, length)
        states = self.network.get_input_embeddings()(ids)
        if self._through:
            states.requires_grad_(True)
        logits: Tensor = self.network(
            inputs_embeds=states, attention_mask=mask, use_cache=False
        ).logits
        return logits[:, :-1].transpose(1, 2)


def tensors(examples: Sequence[IndexedExample]) -> tuple[Tensor, Tensor]:
    """Ids (batch, seq) and the labels of the next tokens (batch, seq - 1)."""
    batch = make_batch(examples, torch.device("cpu"))
    return batch.ids, batch.ids[:, 1:].masked_fill(batch.targets[:, 1:] == 0, IGNORED)


def in_batches(examples: Sequence[IndexedExample], size: int = BATCH) -> Iterator[Any]:
    for begin in range(0, len(examples), size):
        yield examples[begin : begin + size]


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum over the batch's target tokens."""
    return functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without their bars and warnings."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
