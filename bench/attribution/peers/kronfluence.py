"""Kronfluence 1.0.1 (PyPI), the reference implementation of EK-FAC influence, on the same task.

It keeps no index: the factors are fitted once, and each call makes the gradients of all records
again. Everything is fp32, as ours. `damping` None is its heuristic, 0.1 x the mean eigenvalue of
each module.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from torch.utils.data import Dataset

from attribution.influence.examples import IndexedExample
from attribution.influence.gradients import make_batch

BATCH = 16


class Kronfluence:
    """Raises ImportError where the peer is not installed."""

    bytes_per_record = 0.0

    def __init__(
        self, network: Any, damping: float | None = None, queries_at_once: int = BATCH
    ) -> None:
        from kronfluence import Analyzer, prepare_model

        logging.getLogger("kronfluence").setLevel(logging.ERROR)
        self._task = _task(network)
        self._folder = tempfile.TemporaryDirectory(prefix="bench-kronfluence-")
        self.damping = damping
        self._queries_at_once = queries_at_once
        prepared = prepare_model(copy.deepcopy(network), self._task)
        self._analyzer = Analyzer(
            "bench",
            prepared,
            self._task,
            cpu=True,
            disable_tqdm=True,
            log_level=logging.ERROR,
            output_dir=self._folder.name,
        )
        self._records: Dataset[Any] | None = None

    def fit(self, records: Sequence[IndexedExample]) -> None:
        from kronfluence import FactorArguments

        self._records = _Examples(records)
        with _quiet():
            self._analyzer.fit_all_factors(
                "factors",
                self._records,
                per_device_batch_size=BATCH,
                factor_args=FactorArguments(strategy="ekfac"),
                dataloader_kwargs=_loader(),
                overwrite_output_dir=True,
            )

    def matrix(self, queries: Sequence[IndexedExample]) -> NDArray[np.float64]:
        """(queries, records), positive where a record helped."""
        from kronfluence import ScoreArguments

        with _quiet():
            self._analyzer.compute_pairwise_scores(
                "scores",
                "factors",
                query_dataset=_Examples(queries),
                train_dataset=self._records,
                per_device_query_batch_size=self._queries_at_once,
                per_device_train_batch_size=BATCH,
                score_args=ScoreArguments(damping_factor=self.damping),
                dataloader_kwargs=_loader(),
                overwrite_output_dir=True,
            )
            scores = self._analyzer.load_pairwise_scores("scores")["all_modules"]
        found: NDArray[np.float64] = scores.double().numpy()
        return found

    def close(self) -> None:
        self._folder.cleanup()


class _Examples(Dataset[Any]):
    def __init__(self, examples: Sequence[IndexedExample]) -> None:
        self._examples = list(examples)

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, place: int) -> IndexedExample:
        return self._examples[place]


def _collate(examples: list[IndexedExample]) -> dict[str, torch.Tensor]:
    batch = make_batch(examples, torch.device("cpu"))
    return {"ids": batch.ids, "present": batch.present, "targets": batch.targets}


def _loader() -> Any:
    from kronfluence.utils.dataset import DataLoaderKwargs

    return DataLoaderKwargs(num_workers=0, collate_fn=_collate)


def _task(network: Any) -> Any:
    from kronfluence import Task

    modules = [
        name
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) and name.split(".")[-2] in ("lora_A", "lora_B")
    ]

    class LanguageTask(Task):
        def compute_train_loss(
            self, batch: dict[str, torch.Tensor], model: Any, sample: bool = False
        ) -> torch.Tensor:
            logits = model(
                input_ids=batch["ids"], attention_mask=batch["present"], use_cache=False
            ).logits
            mask = batch["targets"][:, 1:] > 0
            chosen, targets = logits[:, :-1][mask].float(), batch["ids"][:, 1:][mask]
            if sample:
                with torch.no_grad():
                    odds = torch.softmax(chosen.detach(), dim=-1)
                    targets = torch.multinomial(odds, 1).squeeze(1)
            return functional.cross_entropy(chosen, targets, reduction="sum")

        def compute_measurement(self, batch: dict[str, torch.Tensor], model: Any) -> torch.Tensor:
            return self.compute_train_loss(batch, model)

        def get_influence_tracked_modules(self) -> list[str]:
            return modules

        def get_attention_mask(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return batch["present"]

    return LanguageTask()


@contextlib.contextmanager
def _quiet() -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        yield
