"""captum 0.9's TracInCP (PyPI), per-example gradients by its sample-wise trick.

It keeps nothing of a record: each call makes all gradients again, and with them those of the
queries for every batch of records.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader

from attribution.influence.examples import IndexedExample
from bench.attribution.peers import common


class CaptumTracIn:
    """Over ``checkpoints`` (network, rate). Raises ImportError where captum is not installed."""

    bytes_per_record = 0.0

    def __init__(self, checkpoints: Sequence[tuple[Any, float]]) -> None:
        import captum.influence  # noqa: F401

        self._models = [
            (common.Answering(network, through=True), rate) for network, rate in checkpoints
        ]
        self._records: Sequence[IndexedExample] = []

    def fit(self, records: Sequence[IndexedExample]) -> None:
        self._records = records

    def matrix(self, queries: Sequence[IndexedExample]) -> NDArray[np.float64]:
        from captum.influence import TracInCP

        states = [(model.state_dict(), rate) for model, rate in self._models]

        def load(model: nn.Module, number: int) -> float:
            state, rate = states[number]
            model.load_state_dict(state)
            return rate

        with common.quiet():
            method = TracInCP(
                self._models[0][0],
                DataLoader(
                    list(self._records),  # type: ignore[arg-type]
                    batch_size=common.BATCH,
                    collate_fn=common.tensors,
                ),
                list(range(len(states))),
                load,
                layers=self._models[0][0].matrices,
                loss_fn=nn.CrossEntropyLoss(ignore_index=common.IGNORED, reduction="sum"),
                sample_wise_grads_per_batch=True,
            )
            ids, labels = common.tensors(queries)
            scores = method.influence((ids, labels), k=None)
        found: NDArray[np.float64] = torch.as_tensor(scores).double().numpy()
        return found
