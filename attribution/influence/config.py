"""Every choice of the influence method, with its meaning. One dataclass, named in each receipt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from attribution.influence.rotation import check_block
from attribution.influence.trellis import GENERATORS, code_bytes, rate_of, twice_of

METHOD = "ekfac-lora"
# 1: covariances of 64 records, sketches clipped as sums are. 2: sketches not turned.
# 3: a bit tells one coordinate. 4: each coordinate has one sign. 5: answers were judged together
# with what all text has in common (`confidence.py`).
METHOD_VERSION = 6


def _option(default: Any, help_text: str) -> Any:
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True, slots=True)
class InfluenceConfig:
    """Raises ValueError where a value is out of its range."""

    seed: int = _option(0, "Draws the fit sample and the labels that the model samples.")
    fit_fraction: float = _option(
        0.25, "Part of the records on which eigenvalues, norms and coordinates are fitted."
    )
    fit_min: int = _option(64, "At least so many records are in the fit sample, where there are.")
    fit_max: int = _option(2048, "At most so many records are in the fit sample.")
    covariance_max: int = _option(128, "At most so many of them make the Kronecker factors.")
    damping: float = _option(
        0.1, "Added to each block's eigenvalues, in units of the block's mean eigenvalue."
    )
    damping_floor: float = _option(
        1e-6, "The least damping, in units of the mean eigenvalue of all blocks."
    )
    clip_percentile: float = _option(
        50.0,
        "A record's whitened gradient is scaled down to this percentile of the fit sample's "
        "norms, which bounds what one crafted record can earn.",
    )
    sketch_clip_percentile: float = _option(
        95.0,
        "The same for sketches, which show and do not pay: at the other percentile they lose a "
        "fiftieth of their precision.",
    )
    group_width: int = _option(
        65_536, "Coordinates that a group's sum and an answer's sketch keep, at most."
    )
    group_budget_bytes: int = _option(
        2**28, "Bytes for the sums of all groups; narrows the sums where groups are many."
    )
    sketch_width: int = _option(
        65_536, "Coordinates that a record's sketch keeps, or signs where some have two."
    )
    sketch_rate: int = _option(
        2,
        "Coordinates that a bit of a sketch tells, 1 to 3; where all coordinates of an adapter fit "
        "as many bytes with a bit each, they get one.",
    )
    sketch_part: float = _option(
        0.7,
        "Part of an adapter's coordinates beyond which a sketch of two a bit keeps no more, but "
        "tells the strongest by two signs, as long as each bit is of 1.5 coordinates; 0 for never.",
    )
    sketch_block: int = _option(
        256, "Coordinates that a sketch mixes before it keeps a bit of each: a power of four."
    )
    query_bits: int = _option(8, "Bits for each coordinate of an answer's sketch: 8 or 16.")
    drift_max: float = _option(
        2.0,
        "How many times larger or smaller the norm at the clip's percentile may be in appended "
        "records before a new fit is asked for.",
    )
    checkpoints: int = _option(
        1,
        "States of the run over which influences are averaged, the published adapter the last. "
        "Each more costs a build's gradients once again and an answer one gradient more; what is "
        "kept of a record stays as long, so that each state has fewer of its coordinates.",
    )
    checkpoint_weights: str = _option(
        "rates",
        "What a state counts: 'rates' the learning rates of the steps since the state before it, "
        "added up; 'even' all the same.",
    )
    checkpoint_factors: str = _option(
        "each",
        "Where the curvature is fitted: at 'each' state, or once at the 'last', which saves its "
        "passes over the fit sample.",
    )
    shard_records: int = _option(256, "Records in one shard of a build, after which it can resume.")
    batch_tokens: int = _option(1024, "Tokens, padding included, in one forward and backward.")

    def __post_init__(self) -> None:
        if not 0 < self.fit_fraction <= 1:
            raise ValueError("fit_fraction lies in (0, 1].")
        for name in ("clip_percentile", "sketch_clip_percentile"):
            if not 0 < getattr(self, name) <= 100:
                raise ValueError(f"{name} lies in (0, 100].")
        if self.damping <= 0 or self.damping_floor <= 0:
            raise ValueError("damping and damping_floor are positive.")
        if self.drift_max < 1:
            raise ValueError("drift_max is at least 1.")
        check_block(self.sketch_block)
        if self.sketch_rate not in GENERATORS:
            raise ValueError("sketch_rate is 1, 2 or 3.")
        if self.checkpoint_weights not in ("rates", "even"):
            raise ValueError("checkpoint_weights is 'rates' or 'even'.")
        if self.checkpoint_factors not in ("each", "last"):
            raise ValueError("checkpoint_factors is 'each' or 'last'.")
        if not 0 <= self.sketch_part <= 1:
            raise ValueError("sketch_part lies in [0, 1].")
        if self.query_bits not in (8, 16):
            raise ValueError("query_bits is 8 or 16.")
        positive = (
            "fit_min",
            "fit_max",
            "covariance_max",
            "group_width",
            "group_budget_bytes",
            "sketch_width",
            "checkpoints",
            "shard_records",
            "batch_tokens",
        )
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1.")

    def rate(self, coordinates: int) -> int:
        """Coordinates that a bit tells, where a sketch keeps so many."""
        return rate_of(coordinates, self.sketch_width, self.sketch_rate)

    def kept(self, dimension: int, width: int) -> int:
        """Of ``width`` coordinates, of an adapter with ``dimension``, how many a sketch keeps."""
        kept = min(self.sketch_width, width)
        if not self.sketch_part or self.sketch_rate != 2 or self.rate(kept) != 2:
            return kept
        few = max(int(self.sketch_part * dimension), 3 * self.sketch_width // 4)
        return min(kept, few)

    def twice(self, coordinates: int) -> int:
        """How many have two signs, where a sketch keeps so many."""
        if not self.sketch_part:
            return 0
        return twice_of(coordinates, self.sketch_width, self.rate(coordinates))

    def code_bytes(self, coordinates: int) -> int:
        """Bytes of the code of a sketch that keeps so many."""
        return code_bytes(coordinates + self.twice(coordinates), self.rate(coordinates))

    @classmethod
    def read(cls, published: Mapping[str, int | str]) -> InfluenceConfig:
        """The configuration that ``published`` these parameters. Raises ValueError for one that
        is not known here, TypeError where it is no number."""
        unknown = published.keys() - {option.name for option in fields(cls)}
        if unknown:
            raise ValueError(f"This version knows no parameter {', '.join(sorted(unknown))}.")
        numbers = {option.name for option in fields(cls) if option.type == "float"}
        values: dict[str, Any] = {
            name: float(value) if name in numbers else value for name, value in published.items()
        }
        return cls(**values)

    def published(self) -> dict[str, int | str]:
        """The parameters as they stand in manifests and receipts: fractions as decimal strings,
        so that every reader of the JSON sees the same bytes. What is said of checkpoints stands
        there only where there are several."""
        values = asdict(self)
        return {
            option.name: repr(values[option.name])
            if isinstance(values[option.name], float)
            else values[option.name]
            for option in fields(self)
            if self.checkpoints > 1 or not option.name.startswith("checkpoint")
        }
