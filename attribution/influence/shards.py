"""One pass over the records, shard by shard. A finished shard is a file, and is not made again.

A shard depends only on the model, the fit and its own records, so shards may be made anywhere
and in any order; put together they give the same bytes.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.influence import commit
from attribution.influence.config import InfluenceConfig
from attribution.influence.curvature import Beat, Factors
from attribution.influence.examples import IndexedExample
from attribution.influence.files import whole
from attribution.influence.fit import Selection, finite_gradients
from attribution.influence.gradients import batches
from attribution.influence.model import AdaptedModel
from attribution.influence.quantise import clip_norms, quantise_vectors, sketch

ARRAYS = ("codes", "norms", "vectors", "groups", "sums", "lengths")


@dataclass(frozen=True, slots=True)
class Shard:
    """Rows in the order of the records; ``groups`` (g,) are the groups that occur, with their
    partial sums (g, width) int64; ``lengths`` (records,) are the norms before they are clipped."""

    codes: NDArray[np.uint8]
    norms: NDArray[np.uint16]
    vectors: NDArray[np.uint8]
    groups: NDArray[np.str_]
    sums: NDArray[np.int64]
    lengths: NDArray[np.float64]

    def save(self, path: Path, of: str) -> None:
        """A file with this name is whole; ``of`` names the fit that it is made with. Raises
        IndexFileError."""
        arrays: dict[str, Any] = {name: getattr(self, name) for name in ARRAYS}
        with whole(path) as partial, partial.open("wb") as out:
            np.savez(out, of=np.array(of), **arrays)

    @classmethod
    def load(cls, path: Path, of: str) -> Shard | None:
        """The shard, or None where it must be made (again): missing, damaged, of another build or
        another fit."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                if str(arrays["of"]) != of:
                    return None
                return cls(*(arrays[name] for name in ARRAYS))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:06d}.npz"


def shard_spans(count: int, config: InfluenceConfig) -> list[range]:
    """The rows of each shard."""
    step = config.shard_records
    return [range(begin, min(begin + step, count)) for begin in range(0, count, step)]


def make_shard(
    model: AdaptedModel,
    factors: Factors,
    selection: Selection,
    examples: Sequence[IndexedExample],
    config: InfluenceConfig,
    beat: Beat,
) -> Shard:
    """Sketch the shard's records and add up its groups. Raises RecordError."""
    groups = sorted({example.group_id for example in examples})
    row_of = {name: row for row, name in enumerate(groups)}
    sketch_width, width = len(selection.weights), len(selection.coordinates)
    rate, twice = config.rate(sketch_width), config.twice(sketch_width)
    codes = np.zeros((len(examples), config.code_bytes(sketch_width)), dtype=np.uint8)
    norms = np.zeros(len(examples), dtype=np.uint16)
    hashes = np.zeros((len(examples), 32), dtype=np.uint8)
    sums = np.zeros((len(groups), width), dtype=np.int64)
    norms_before = np.zeros(len(examples))
    counts = [len(example.input_ids) for example in examples]
    for batch in batches(counts, range(len(examples)), config.batch_tokens):
        chosen = [examples[place] for place in batch]
        whole = finite_gradients(model, factors, chosen)
        norms_before[batch] = np.linalg.norm(whole.astype(np.float64), axis=1)
        chosen_only = whole[:, selection.coordinates]
        shown = clip_norms(whole, selection.sketch_clip)[:, None] * chosen_only[:, :sketch_width]
        codes[batch], norms[batch] = sketch(
            shown, selection.weights, selection.sketch_clip, config.sketch_block, rate, twice
        )
        paid = clip_norms(whole, selection.clip)[:, None] * chosen_only
        whole_numbers = quantise_vectors(paid, selection.clip)
        for place, numbers in zip(batch, whole_numbers, strict=True):
            hashes[place] = np.frombuffer(commit.vector_sha256(numbers), dtype=np.uint8)
            sums[row_of[examples[place].group_id]] += numbers
        beat()
    return Shard(codes, norms, hashes, np.array(groups), sums, norms_before)
