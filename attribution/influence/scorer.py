"""From an answer to its integer influences: one gradient, then the index's dot products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attribution.influence.checkpoints import as_indexed
from attribution.influence.curvature import Factors, whitened_gradients
from attribution.influence.errors import AdapterMismatchError, QueryError
from attribution.influence.examples import IndexedExample, check_query
from attribution.influence.index import Index, Scores
from attribution.influence.model import AdaptedModel, load
from attribution.influence.quantise import Query, quantise_query


@dataclass(frozen=True, slots=True)
class Scorer:
    """A model, its index and the index's factors. Make one with ``Scorer.load`` and keep it."""

    model: AdaptedModel
    index: Index
    factors: Factors

    @classmethod
    def load(
        cls,
        index: Index,
        base_folder: Path | str,
        adapter_folder: Path | str,
        device: str,
        earlier: Sequence[Path] = (),
    ) -> Scorer:
        """``earlier`` are the adapter's files at the checkpoints that the index was built over.

        Raises AdapterMismatchError where the index was built for other weights.
        """
        model = load(base_folder, adapter_folder, device)
        return cls.of(index, as_indexed(model, index.manifest.header, earlier))

    @classmethod
    def of(cls, index: Index, model: AdaptedModel) -> Scorer:
        """The same for a model that is loaded already."""
        header = index.manifest.header
        for what, found in (("adapter", model.adapter_sha256), ("base", model.base_sha256)):
            stated = header[f"{what}_sha256"]
            if stated != found:
                raise AdapterMismatchError(
                    f"The index {index.manifest.root[:12]} was built for {what} "
                    f"{stated[:12]}, not for {found[:12]}."
                )
        if header.get("checkpoints", []) != model.stated_checkpoints:
            raise AdapterMismatchError(
                f"The index {index.manifest.root[:12]} was built over other checkpoints of the run."
            )
        return cls(model, index, Factors.load(index.folder / "factors.npz", model.device))

    def score(self, input_ids: Sequence[int], loss_mask: Sequence[int]) -> Scores:
        """Influence of every group and record on the tokens whose ``loss_mask`` is 1.

        Positive where the records made the answer likelier. Raises QueryError.
        """
        return self.index.score(self.query(input_ids, loss_mask))

    def query(self, input_ids: Sequence[int], loss_mask: Sequence[int]) -> Query:
        """The answer's quantised sketch, in the index's coordinates. Raises QueryError."""
        bits = int(self.index.manifest.header["parameters"]["query_bits"])
        return quantise_query(self.gradient(input_ids, loss_mask), bits)

    def gradient(self, input_ids: Sequence[int], loss_mask: Sequence[int]) -> NDArray[np.float32]:
        """The answer's whitened gradient in the index's coordinates (width,), not quantised."""
        check_query(input_ids, loss_mask, self.model.context_length)
        example = IndexedExample("query", "query", input_ids, loss_mask)
        whole: NDArray[np.float32] = (
            whitened_gradients(self.model, self.factors, [example])[0].cpu().numpy()
        )
        if not np.isfinite(whole).all():
            raise QueryError("The answer's gradient is not a finite number.")
        return whole[self.index.coordinates]
