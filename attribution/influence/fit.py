"""What is learned from the fit sample before the pass over all records.

The curvature's factors, then three things that whitened gradients of the sample tell: which
coordinates are strongest, how large each usually is, and at which norm records are clipped.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attribution.influence.config import InfluenceConfig
from attribution.influence.curvature import Beat, Factors, whitened_gradients
from attribution.influence.errors import IndexFileError, InfluenceError, RecordError
from attribution.influence.examples import IndexedExample
from attribution.influence.gradients import batches
from attribution.influence.model import AdaptedModel
from attribution.influence.quantise import quantise_weights
from attribution.influence.rotation import usual_sizes


@dataclass(frozen=True, slots=True)
class Selection:
    """``coordinates`` (width,) of the flat vector, strongest first; ``weights`` (sketch width,)
    for its first coordinates; ``clip`` is the norm at which records are cut before they are added
    up, ``sketch_clip`` that at which their sketches are."""

    coordinates: NDArray[np.int64]
    weights: NDArray[np.uint8]
    clip: float
    sketch_clip: float

    def save(self, path: Path) -> None:
        np.savez(
            path,
            coordinates=self.coordinates,
            weights=self.weights,
            clip=self.clip,
            sketch_clip=self.sketch_clip,
        )

    @classmethod
    def load(cls, path: Path) -> Selection:
        """Raises IndexFileError where the file is missing or damaged."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(
                    arrays["coordinates"],
                    arrays["weights"],
                    float(arrays["clip"]),
                    float(arrays["sketch_clip"]),
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise IndexFileError(path, f"it cannot be read ({error}).") from error


def fit_sample(count: int, config: InfluenceConfig) -> list[int]:
    """Places of the records that are fitted on: a seeded draw, in a seeded order."""
    wanted = math.ceil(count * config.fit_fraction)
    wanted = min(count, config.fit_max, max(wanted, config.fit_min))
    order = np.random.default_rng(config.seed).permutation(count)
    return [int(place) for place in order[:wanted]]


def group_width(dimension: int, groups: int, config: InfluenceConfig) -> int:
    """How many coordinates the sums keep: all where the budget allows."""
    affordable = max(1, config.group_budget_bytes // (8 * groups))
    return min(dimension, config.group_width, affordable)


def select(
    model: AdaptedModel,
    factors: Factors,
    examples: Sequence[IndexedExample],
    groups: int,
    config: InfluenceConfig,
    beat: Beat,
) -> Selection:
    """Choose coordinates, weights and clip from the sample's whitened gradients.

    Raises RecordError for a gradient that is not finite, InfluenceError where all are zero.
    """
    strength = np.zeros(model.whole_dimension)
    norms: list[float] = []
    lengths = [len(example.input_ids) for example in examples]
    for batch in batches(lengths, range(len(examples)), config.batch_tokens):
        chosen = [examples[place] for place in batch]
        vectors = finite_gradients(model, factors, chosen)
        lengths_of = np.linalg.norm(vectors.astype(np.float64), axis=1)
        norms.extend(float(norm) for norm in lengths_of)
        # Each record counts the same here, so that a few loud ones do not choose for all.
        directions = vectors / np.maximum(lengths_of, np.finfo(np.float64).tiny)[:, None]
        strength += np.square(directions).sum(axis=0)
        beat()
    clip = float(np.percentile(norms, config.clip_percentile))
    sketch_clip = float(np.percentile(norms, config.sketch_clip_percentile))
    if clip <= 0:
        raise InfluenceError("All gradients of the fit sample are zero.")
    width = group_width(model.whole_dimension, groups, config)
    order = np.argsort(-strength, kind="stable")[:width].astype(np.int64)
    sketched = order[: config.kept(model.whole_dimension, width)]
    sizes = usual_sizes(strength[sketched], config.sketch_block)
    return Selection(order, quantise_weights(sizes), clip, sketch_clip)


def finite_gradients(
    model: AdaptedModel, factors: Factors, examples: Sequence[IndexedExample]
) -> NDArray[np.float32]:
    """Whitened gradients (batch, whole dimension). Raises RecordError where one is not finite."""
    vectors: NDArray[np.float32] = whitened_gradients(model, factors, examples).cpu().numpy()
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        culprit = examples[int(np.argmin(finite))]
        raise RecordError(culprit.record_id, "its gradient is not a finite number.")
    return vectors
