"""TRAK (PyPI `traker` 0.3.2) of one checkpoint, on the adapter's matrices.

``ridge`` is in parts of the mean eigenvalue of the projected gradients' second moment, which has
no inverse where there are fewer records than dimensions. The model's output is the sum over the
answer's tokens of the log-odds of the right token, as its paper has it for one label, or of the
log-probability. Projections are its portable ones: the fast ones want a GPU.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attribution.influence.examples import IndexedExample
from bench.attribution.peers import common


class Trak:
    """Raises ImportError where traker is not installed."""

    def __init__(self, network: Any, dimensions: int, ridge: float, odds: bool = True) -> None:
        import trak  # noqa: F401

        self._model = common.Answering(network)
        self._dimensions, self._ridge, self._odds = dimensions, ridge, odds
        self._folder = tempfile.TemporaryDirectory(prefix="bench-trak-")
        self.bytes_per_record = 4.0 * dimensions + 4  # the features, and the record's own weight
        self._method: Any = None

    def fit(self, records: Sequence[IndexedExample]) -> None:
        from trak import TRAKer

        with common.quiet():
            self._method = TRAKer(
                self._model,
                _output(self._odds),
                len(records),
                save_dir=self._folder.name,
                device="cpu",
                proj_dim=self._dimensions,
                use_half_precision=False,
                logging_level=logging.ERROR,
            )
            self._method.load_checkpoint(self._model.state_dict(), model_id=0)
            for part in common.in_batches(records, 128):
                self._method.featurize(common.tensors(part), num_samples=len(part))
        self.tune(self._ridge)

    def tune(self, ridge: float) -> None:
        """Its features with another ridge, from the gradients that it has."""
        store = self._method.saver.current_store
        mean = float(np.square(store["grads"][:], dtype=np.float64).sum()) / self._dimensions
        self._method.score_computer.lambda_reg = ridge * mean
        self._method.saver.model_ids[0]["is_finalized"] = 0
        self._method.projector.proj_matrix = torch.empty(0)  # it lets go of one that must be there
        with common.quiet():
            self._method.finalize_features()

    def matrix(self, queries: Sequence[IndexedExample]) -> NDArray[np.float64]:
        with common.quiet():
            self._method.start_scoring_checkpoint(
                "queries", self._model.state_dict(), 0, num_targets=len(queries)
            )
            for part in common.in_batches(queries, 128):
                self._method.score(common.tensors(part), num_samples=len(part))
            scores = self._method.finalize_scores("queries")
        found: NDArray[np.float64] = np.array(scores, dtype=np.float64).T
        return found

    def close(self) -> None:
        self._folder.cleanup()


def _output(odds: bool) -> Any:
    from trak.modelout_functions import AbstractModelOutput

    def chances(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability of each right token and which of them count, (batch, seq - 1)."""
        logs = torch.log_softmax(logits, dim=1)
        right = logs.gather(1, labels.clamp(min=0).unsqueeze(1)).squeeze(1)
        return right, labels != common.IGNORED

    class Answers(AbstractModelOutput):
        def __init__(self) -> None: ...

        @staticmethod
        def get_output(
            model: Any, weights: Any, buffers: Any, ids: Tensor, labels: Tensor
        ) -> Tensor:
            logits = torch.func.functional_call(model, (weights, buffers), (ids.unsqueeze(0),))
            right, counts = chances(logits, labels.unsqueeze(0))
            if odds:
                right = right - torch.log(-torch.expm1(right.clamp(max=-1e-6)))
            return (right * counts).sum()

        @staticmethod
        def get_out_to_loss_grad(model: Any, weights: Any, buffers: Any, batch: Any) -> Tensor:
            ids, labels = batch
            with torch.no_grad():
                logits = torch.func.functional_call(model, (weights, buffers), (ids,))
                right, counts = chances(logits, labels)
            missed = (1 - right.exp()) * counts
            return (missed.sum(dim=1) / counts.sum(dim=1)).unsqueeze(-1)

    return Answers
