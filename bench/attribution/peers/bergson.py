"""Bergson 2.5.1 (PyPI), as its `trackstar` does it: gradients of each matrix projected from both
sides, preconditioned by their second moment, by choice to unit length.

Its collector and preconditioner are called in this process, since its commands start by loading
a model from a folder. ``side`` is the projection's number of rows and of columns.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attribution.influence.examples import IndexedExample
from bench.attribution.peers import common


class Bergson:
    """Raises ImportError where it is not installed."""

    def __init__(self, network: Any, side: int | None, damping: float | None, unit: bool) -> None:
        import bergson  # noqa: F401

        # Its collector wants gradients to reach the first adapter through the embeddings.
        self._network = copy.deepcopy(network).eval()
        for module in self._network.modules():
            module._forward_hooks.clear()
        for name in _matrices(self._network):
            self._network.get_submodule(name).requires_grad_(True)
        self._network.get_base_model().enable_input_require_grads()
        self._side, self._damping, self._unit = side, damping, unit
        self._folder = tempfile.TemporaryDirectory(prefix="bench-bergson-")
        self._precondition: Any = None
        self._gradients: dict[str, Tensor] = {}
        self._records = torch.empty(0)
        self.bytes_per_record = 0.0

    def fit(self, records: Sequence[IndexedExample]) -> None:
        from bergson import GradientProcessor

        self._processor = GradientProcessor(projection_dim=self._side, projection_seed=0)
        self._gradients = self._collect(records, hessians=self._damping is not None)
        self.tune(self._damping, self._unit)

    def tune(self, damping: float | None, unit: bool) -> None:
        """Another damping or length, from the gradients that it has."""
        from bergson.config import InversionConfig
        from bergson.hessians.preconditioner import DensePreconditioner

        self._damping, self._unit = damping, unit
        if damping is not None:
            self._precondition = DensePreconditioner.from_processor(
                self._processor,
                inversion_cfg=InversionConfig(damping_factor=damping),
                # Both sides are preconditioned where they are brought to unit length.
                power=-0.5 if unit else -1.0,
            )
        gradients = self._conditioned(self._gradients) if unit else self._gradients
        self._records = self._joined(gradients)
        self.bytes_per_record = 4.0 * self._records.shape[1]

    def matrix(self, queries: Sequence[IndexedExample]) -> NDArray[np.float64]:
        asked = self._joined(self._conditioned(self._collect(queries, hessians=False)))
        found: NDArray[np.float64] = (asked @ self._records.T).double().numpy()
        return found

    def close(self) -> None:
        self._folder.cleanup()

    def _conditioned(self, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
        if self._precondition is None:
            return gradients
        found: dict[str, Tensor] = self._precondition.apply(gradients)
        return found

    def _joined(self, gradients: dict[str, Tensor]) -> Tensor:
        rows = torch.cat([gradients[name].float() for name in sorted(gradients)], dim=1)
        return rows / rows.norm(dim=1, keepdim=True) if self._unit else rows

    def _collect(self, examples: Sequence[IndexedExample], hessians: bool) -> dict[str, Tensor]:
        from bergson import CollectorComputer, IndexConfig, InMemoryCollector
        from datasets import Dataset

        rows = [
            {
                "input_ids": list(example.input_ids),
                "labels": [
                    token if counts else common.IGNORED
                    for token, counts in zip(example.input_ids, example.loss_mask, strict=True)
                ],
                "length": len(example.input_ids),
            }
            for example in examples
        ]
        data = Dataset.from_list(rows)
        config = IndexConfig(f"{self._folder.name}/index", projection_dim=self._side or 0)
        config.partial_run_path.mkdir(exist_ok=True)
        network = self._network
        with common.quiet():
            collector = InMemoryCollector(
                model=network.base_model,
                cfg=config,
                processor=self._processor,
                data=data,
                target_modules={name.removeprefix("base_model.") for name in _matrices(network)},
                skip_hessians=not hessians,
            )
            places = [list(range(len(rows)))[b : b + 16] for b in range(0, len(rows), 16)]
            computer = CollectorComputer(
                network, data, collector=collector, batches=places, cfg=config
            )
            computer.run_with_collector_hooks()
        found: dict[str, Tensor] = {k: v.clone() for k, v in collector.gradients.items()}
        return found


def _matrices(network: Any) -> list[str]:
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) and name.split(".")[-2] in ("lora_A", "lora_B")
    ]
