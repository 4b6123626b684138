"""Settings on the development queries alone: `python -m bench.attribution --search`.

Gradients are made once and each setting is applied to them, so that many cost little: how much of
the records the curvature is fitted on, damping, clip, and how a sketch spends its bytes (codes of
one bit or three levels on the strongest coordinates, turned or not, or a random projection of the
whitened gradients). Every line goes to `task_a/search.json`, best first; what was chosen stands in
`InfluenceConfig` and in `others.py`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attribution.influence import curvature
from attribution.influence.baselines import BlockFisher, plain_gradients
from attribution.influence.config import InfluenceConfig
from attribution.influence.curvature import Factors
from attribution.influence.fit import fit_sample
from attribution.influence.model import AdaptedModel
from attribution.influence.quantise import clip_norms
from attribution.influence.rotation import turn, usual_sizes
from bench.attribution import metrics, task
from bench.attribution.runs import World

Floats = NDArray[np.float32]
FITS = ((0.25, 64), (0.25, 128), (1.0, 512))  # part of the records, of them for the covariances
DAMPINGS = (0.01, 0.1, 1.0)
BLOCK_DAMPINGS = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0)
CLIPS = (50.0, 90.0, 100.0)
# Coordinates of one bit and of three levels (five to a byte) that take 4,096 and about 1,700 bytes.
SKETCHES = ((2, 32_768), (3, 20_480), (2, 13_568), (3, 8_320))
BLOCK = InfluenceConfig().sketch_block
PROJECTED = (4096, 1664)
CHOSEN = (0.25, 128, 0.1)  # where projections that take long are tried as well


@dataclass(frozen=True, slots=True)
class Whitened:
    """Records and development queries under one setting, and where the fit sample stands."""

    setting: str
    records: Floats
    queries: Floats
    sample: list[int]


def main(world: World) -> int:
    lines = [*_ours(world), *_blocks(world), *_kronfluence(world)]
    lines.sort(key=lambda line: -line["lds"])
    out = task.FOLDER / "search.json"
    out.write_text("[\n" + ",\n".join(f" {json.dumps(line)}" for line in lines) + "\n]\n")
    for line in lines:
        sys.stdout.write(
            f"{line['lds']:.3f} {line['pearson']:.3f} {line['variation']:.3f}  {line['setting']}\n"
        )
    return 0


def _ours(world: World) -> Iterator[dict[str, Any]]:
    records = plain_gradients(world.model, world.made.records)
    queries = plain_gradients(world.model, world.asked[: task.DEVELOPMENT])
    for fraction, few in FITS:
        config = InfluenceConfig(fit_fraction=fraction, covariance_max=few)
        sample = fit_sample(len(records), config)
        fitted = [world.made.records[place] for place in sample]
        factors = curvature.fit(world.model, fitted, config, lambda: None)
        for damping in DAMPINGS:
            damped = _damped(factors, config, damping)
            name = f"fit {fraction:g}, covariance {few}, damping {damping:g}"
            made = Whitened(
                name,
                _whiten(world.model, damped, records),
                _whiten(world.model, damped, queries),
                sample,
            )
            yield from _scored(world, made)
            if (fraction, few, damping) == CHOSEN:
                yield from _other_projections(world, made)


def _scored(world: World, made: Whitened) -> Iterator[dict[str, Any]]:
    plain = (made.queries @ made.records.T).astype(np.float64)
    yield line(world, f"{made.setting}: whole", plain)
    norms = np.linalg.norm(made.records[made.sample], axis=1)
    for percentile in CLIPS[:-1]:
        clip = float(np.percentile(norms, percentile))
        cut = clip_norms(made.records, clip)[None, :]
        yield line(world, f"{made.setting}, clip {percentile:g}: whole", plain * cut)
    clip = float(np.percentile(norms, InfluenceConfig().sketch_clip_percentile))
    clipped = made.records * clip_norms(made.records, clip)[:, None]
    directions = made.records[made.sample] / norms[:, None]
    order = np.argsort(-np.square(directions).sum(axis=0), kind="stable")
    weight = np.abs(directions).mean(axis=0)
    for levels, width in SKETCHES:
        chosen = order[:width]
        codes = _codes(clipped[:, chosen], weight[chosen], levels)
        found = (made.queries[:, chosen] @ codes.T).astype(np.float64)
        size = width / 8 if levels == 2 else width / 5
        yield line(world, f"{made.setting}: {levels} levels x {width}, {size:.0f} B", found)
        if levels == 2:
            turned = turn(clipped[:, chosen], BLOCK)
            sizes = usual_sizes(np.square(directions[:, chosen]).sum(axis=0), BLOCK)
            codes = _codes(turned, sizes, levels)
            found = (turn(made.queries[:, chosen], BLOCK) @ codes.T).astype(np.float64)
            yield line(world, f"{made.setting}: turned signs x {width}, {size:.0f} B", found)
    for size in PROJECTED:
        found = _projected(made.queries, clipped, 8 * size)
        yield line(world, f"{made.setting}: SJLT to {8 * size} signs, {size} B", found)


def _blocks(world: World) -> Iterator[dict[str, Any]]:
    """The true Fisher information of whole blocks, whose damping is all that there is to choose."""
    for damping in BLOCK_DAMPINGS:
        method = BlockFisher(world.model, damping)
        method.fit(world.made.records)
        found = np.array([method.scores(query) for query in world.asked[: task.DEVELOPMENT]])
        yield line(world, f"block Fisher, damping {damping:g}", found)


def _codes(rows: Floats, weight: NDArray[Any], levels: int) -> Floats:
    """What a record's code stands for: signs (or -1, 0, 1 by half the usual magnitude), times
    weights, times the least-squares norm."""
    code = np.sign(rows)
    if levels == 3:
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        code[np.abs(rows) < 0.6 * weight * length] = 0
    code = code * weight
    fit = (rows * code).sum(axis=1) / np.maximum(np.square(code).sum(axis=1), 1e-30)
    found: Floats = (code * fit[:, None]).astype(np.float32)
    return found


def _projected(queries: Floats, records: Floats, width: int) -> NDArray[np.float64]:
    """Each coordinate is added, with a random sign, to one of ``width`` buckets; the record then
    keeps the buckets' signs."""
    draw = np.random.default_rng(0)
    bucket: NDArray[np.int64] = draw.integers(0, width, size=(records.shape[1],))
    sign = draw.choice(np.array([-1.0, 1.0], dtype=np.float32), records.shape[1])
    order = np.argsort(bucket, kind="stable")
    starts = np.flatnonzero(np.diff(bucket[order], prepend=-1))

    def project(rows: Floats) -> Floats:
        out: Floats = np.add.reduceat((rows * sign)[:, order], starts, axis=1)
        return out

    kept, asked = project(records), project(queries)
    code = _codes(kept, np.abs(kept).mean(axis=0), 2)
    return (asked @ code.T).astype(np.float64)


def _other_projections(world: World, made: Whitened) -> Iterator[dict[str, Any]]:
    """Signs of a dense Gaussian projection, and of one to each side of each matrix (LoGra's form),
    in place of signs of the strongest coordinates: as many as fit the same bytes."""
    norms = np.linalg.norm(made.records[made.sample], axis=1)
    clip = float(np.percentile(norms, InfluenceConfig().sketch_clip_percentile))
    clipped = made.records * clip_norms(made.records, clip)[:, None]
    both = np.concatenate([clipped, made.queries])
    for size in PROJECTED:
        for what, rows in (
            ("dense projection", _densely(both, 8 * size)),
            ("factored projection", _by_sides(world.model, both, 8 * size)),
        ):
            kept, asked = rows[: len(clipped)], rows[len(clipped) :]
            code = _codes(kept, np.abs(kept).mean(axis=0), 2)
            name = f"{made.setting}: {what} to {rows.shape[1]} signs, {rows.shape[1] // 8} B"
            yield line(world, name, (asked @ code.T).astype(np.float64))


def _densely(rows: Floats, width: int) -> Floats:
    draw = np.random.default_rng(0)
    out = np.empty((len(rows), width), dtype=np.float32)
    for first in range(0, width, 1_024):  # all of it would take ten gigabytes
        some = min(1_024, width - first)
        out[:, first : first + some] = rows @ draw.standard_normal(
            (rows.shape[1], some), dtype=np.float32
        )
    return out


def _by_sides(model: AdaptedModel, rows: Floats, width: int) -> Floats:
    """Each matrix keeps its short side, the adapter's rank, and its long one is projected."""
    draw = np.random.default_rng(0)
    share = width // len(model.blocks)
    found = []
    for block in model.blocks:
        matrices = rows[:, block.span].reshape(len(rows), block.rows, block.columns)
        if block.rows < block.columns:
            matrices = matrices.transpose(0, 2, 1)  # (rows, long, short)
        length, rank = matrices.shape[1:]
        onto = draw.standard_normal((length, max(1, share // rank)), dtype=np.float32)
        found.append(np.einsum("nlr,lp->nrp", matrices, onto).reshape(len(rows), -1))
    return np.concatenate(found, axis=1).astype(np.float32)


def _damped(factors: Factors, config: InfluenceConfig, damping: float) -> Factors:
    """The same eigenbases with another damping: the eigenvalues are found back from the roots."""
    roots = []
    for root in factors.inverse_roots:
        damped = root.double() ** -2
        mean = damped.mean() / (1 + config.damping)
        values = damped - config.damping * mean
        roots.append((values.clamp(min=0) + damping * mean).rsqrt().float())
    return replace(factors, inverse_roots=tuple(roots))


def _whiten(model: AdaptedModel, factors: Factors, gradients: Floats) -> Floats:
    out = np.empty_like(gradients)
    for number, block in enumerate(model.blocks):
        rows = torch.from_numpy(gradients[:, block.span]).view(-1, block.rows, block.columns)
        out[:, block.span] = curvature.whiten(factors, number, rows).flatten(1).numpy()
    return out


def _kronfluence(world: World) -> Iterator[dict[str, Any]]:
    from bench.attribution.peers.kronfluence import Kronfluence

    try:
        peer = Kronfluence(world.model.network)
    except ImportError as error:
        sys.stderr.write(f"Kronfluence is left out: {error}.\n")
        return
    peer.fit(world.made.records)
    for damping in (None, 1e-8):
        peer.damping = damping
        found = peer.matrix(world.asked[: task.DEVELOPMENT])
        yield line(world, f"Kronfluence, damping {damping or 'by its heuristic'}", found)
    peer.close()


def line(world: World, setting: str, records: NDArray[np.float64]) -> dict[str, Any]:
    """How right ``records`` (development queries, records) are."""
    known = world.known.of(slice(0, task.DEVELOPMENT))
    quality = metrics.judge(records, world.sums(records), known)
    sys.stderr.write(f"{quality.lds.mean():.3f}  {setting}\n")
    return {
        "setting": setting,
        **{
            figure: round(float(getattr(quality, figure).mean()), 4)
            for figure in ("lds", "pearson", "spearman", "top1", "variation")
        },
    }
