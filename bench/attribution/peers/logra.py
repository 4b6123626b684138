"""LoGra of dattri 0.3 (PyPI): gradients projected by factors, then divided by the empirical Fisher
information of each module.

``side`` is how many numbers of each side of a LoRA matrix are left, so that a record keeps
side x side numbers of every matrix.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from attribution.influence.examples import IndexedExample
from bench.attribution.peers import common


class LoGra:
    """Raises ImportError where dattri is not installed."""

    def __init__(self, network: Any, side: int, damping: float | None, fisher: bool = True) -> None:
        from dattri.algorithm.logra import LoGraAttributor
        from dattri.task import AttributionTask

        self._model = _Losing(network)
        names = [f"inner.{name}" for name in self._model.inner.matrices]
        self.bytes_per_record = 4.0 * side * side * len(names)
        self._folder = tempfile.TemporaryDirectory(prefix="bench-logra-")
        torch.manual_seed(0)  # its projections are drawn from the global generator
        with common.quiet():
            task = AttributionTask(_loss, self._model, self._model.state_dict())
            self._method = LoGraAttributor(
                task,
                layer_names=names,
                hessian="eFIM" if fisher else "Identity",
                damping=damping,
                proj_dim=side * side,
                cache_dir=self._folder.name,  # else it writes where it stands
            )
        self._records: DataLoader[Any] | None = None

    def fit(self, records: Sequence[IndexedExample]) -> None:
        self._records = _batches(records)
        with common.quiet():
            self._method.cache(self._records)

    def tune(self, damping: float | None) -> None:
        """Another damping, from the gradients that it has."""
        with common.quiet():
            self._method.compute_preconditioners(damping)
            self._method.compute_ifvp()

    def matrix(self, queries: Sequence[IndexedExample]) -> NDArray[np.float64]:
        with common.quiet():
            scores = self._method.attribute(self._records, _batches(queries))
        found: NDArray[np.float64] = scores.double().numpy().T
        return found


@dataclass(frozen=True, slots=True)
class _Output:
    loss: Tensor


class _Losing(nn.Module):
    """Gives the loss itself, as its attributor wants for batches that are dicts."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.inner = common.Answering(network)

    def forward(self, ids: Tensor, labels: Tensor) -> _Output:
        return _Output(common.loss(self.inner(ids), labels))


def _batches(examples: Sequence[IndexedExample]) -> DataLoader[Any]:
    """All examples in their order."""

    def collate(part: list[IndexedExample]) -> dict[str, Tensor]:
        return dict(zip(("ids", "labels"), common.tensors(part), strict=True))

    return DataLoader(list(examples), batch_size=common.BATCH, collate_fn=collate)  # type: ignore[arg-type]


def _loss(model: nn.Module, batch: dict[str, Tensor], device: str) -> Tensor:
    loss: Tensor = model(**batch).loss
    return loss
