"""A finished index with records appended or removed, as a new index beside the old one.

The old folder and its root stay as they are, since receipts name them; the new header names the
root that it `revises`. Factors, coordinates and clip are those of the first fit, so old rows are
copied byte for byte and only what changed is computed:

- `append` makes the gradients of the new records.
- `remove` takes the records out and adds up the groups that they were in once more, from the
  records that are left. Subtracting would need the removed vectors to the last bit, which no
  machine but the first need give.

Records that come from elsewhere than those of the fit make its norms, and with them the clip,
untrue: past `drift_max` appending is refused and a new `build` is asked for.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.influence import assemble
from attribution.influence.build import (
    WORK,
    Fitted,
    Progress,
    digest_of,
    finished_index,
    make_shards,
    null_of,
    ticker,
    work_folder,
)
from attribution.influence.config import InfluenceConfig
from attribution.influence.curvature import Factors
from attribution.influence.errors import DriftError, InfluenceError, RecordError
from attribution.influence.examples import IndexedExample, check_examples
from attribution.influence.files import own_folder
from attribution.influence.fit import Selection
from attribution.influence.index import Index, IndexManifest
from attribution.influence.model import AdaptedModel
from attribution.influence.scorer import Scorer
from attribution.influence.shards import shard_spans
from attribution.translog import canonical


def append(
    model: AdaptedModel,
    index: Index,
    config: InfluenceConfig,
    examples: Sequence[IndexedExample],
    out_folder: Path | str,
    on_progress: Progress | None = None,
    foreign: Sequence[IndexedExample] = (),
) -> IndexManifest:
    """``index`` and ``examples`` together, in ``out_folder``. Resumes like a build.

    Raises RecordError for a record that cannot be indexed or is in the index already, DriftError
    where the new records do not fit the old curvature, AdapterMismatchError, InfluenceError.
    """
    check_examples(examples, model.context_length)
    known = {entry.record_id for entry in index.records}
    for example in examples:
        if example.record_id in known:
            raise RecordError(example.record_id, "it is in the index already.")
    return _revise(
        model, index, config, set(), examples, set(), Path(out_folder), on_progress, foreign
    )


def remove(
    model: AdaptedModel,
    index: Index,
    config: InfluenceConfig,
    record_ids: Collection[str],
    remaining: Sequence[IndexedExample],
    out_folder: Path | str,
    on_progress: Progress | None = None,
    foreign: Sequence[IndexedExample] = (),
) -> IndexManifest:
    """``index`` without ``record_ids``, in ``out_folder``. Resumes like a build.

    ``remaining`` are all other records of the groups that lose some, as they were indexed.
    Raises RecordError for a record that is not in the index, or one of ``remaining`` that is
    missing or not what was indexed; InfluenceError where no record would be left.
    """
    gone = set(record_ids)
    groups = {entry.group_id for entry in index.records if entry.record_id in gone}
    left = {
        entry.record_id: entry
        for entry in index.records
        if entry.group_id in groups and entry.record_id not in gone
    }
    for missing in sorted(gone - {entry.record_id for entry in index.records}):
        raise RecordError(missing, "it is not in the index.")
    if len(gone) == len(index.records):
        raise InfluenceError("No record would be left in the index.")
    if remaining:
        check_examples(remaining, model.context_length)
    for example in remaining:
        if left.pop(example.record_id, None) != assemble.entry_of(example):
            raise RecordError(example.record_id, "it is not what stands in the index.")
    for missing in sorted(left):
        raise RecordError(missing, "it is needed to add its group up again.")
    return _revise(
        model, index, config, gone, remaining, groups, Path(out_folder), on_progress, foreign
    )


def _revise(
    model: AdaptedModel,
    index: Index,
    config: InfluenceConfig,
    gone: set[str],
    fresh: Sequence[IndexedExample],
    anew: set[str],
    out_folder: Path,
    on_progress: Progress | None,
    foreign: Sequence[IndexedExample],
) -> IndexManifest:
    """``fresh`` are computed; rows of ``anew`` groups and of ``gone`` records are not taken.

    The null is fitted again on ``foreign``, since its groups are others now."""
    factors = _check(model, index, config, out_folder)
    ordered = sorted(fresh, key=lambda example: (example.group_id, example.record_id))
    fingerprint = canonical.sha256(
        {
            "revises": index.manifest.root,
            "fresh": [example.digest() for example in ordered],
            "gone": sorted(gone),
            **({"foreign": digest_of(foreign)} if foreign else {}),
        }
    )
    if finished := finished_index(out_folder, fingerprint):
        return finished
    work = work_folder(out_folder, fingerprint)
    clip = float(index.manifest.header["clip"])
    selection = Selection(
        np.asarray(index.coordinates),
        np.asarray(index.weights),
        clip,
        float(index.manifest.header["sketch_clip"]),
    )
    fitted = Fitted(factors, selection, {}, fingerprint)  # which has the root of that fit
    spans = shard_spans(len(ordered), config)
    numbered = ((number, ordered[span.start : span.stop]) for number, span in enumerate(spans))
    tick = ticker(on_progress, len(ordered))
    for number, _ in make_shards(model, fitted, numbered, config, work, tick):
        if on_progress:
            on_progress(spans[number].stop, len(ordered))

    kept = [r for r, entry in enumerate(index.records) if entry.group_id not in anew]
    entries = [index.records[row] for row in kept]
    entries += [assemble.entry_of(example) for example in ordered]
    order = sorted(range(len(entries)), key=lambda r: (entries[r].group_id, entries[r].record_id))
    group_ids = sorted({entry.group_id for entry in entries})
    width = len(selection.coordinates)
    arrays = _rows_of(index, kept)
    sums = np.zeros((len(group_ids), width), dtype=np.int64)
    _add(sums, group_ids, index, anew)
    if ordered:
        size = index.codes.shape[1]
        with own_folder(work, "rows-") as rows:
            made, lengths = assemble.gather(
                work, rows, group_ids, selection, spans, fingerprint, size
            )
            if not anew:
                _check_drift(lengths, clip, config)
            sums += made.pop("sums")
            arrays = {name: np.concatenate([arrays[name], made[name]]) for name in arrays}
    arrays = {name: array[order] for name, array in arrays.items()}
    arrays |= {"sums": sums, "coordinates": selection.coordinates, "weights": selection.weights}
    kept_header = {k: v for k, v in index.manifest.header.items() if k != "confidence"}
    header = {
        **kept_header,
        "fingerprint": fingerprint,
        "record_count": len(entries),
        "revises": index.manifest.root,
    }
    in_order = [entries[row] for row in order]
    null = null_of(model, factors, arrays, in_order, config, foreign)
    manifest = assemble.write(
        out_folder, header, in_order, arrays, index.folder / "factors.npz", null
    )
    shutil.rmtree(out_folder / WORK)
    return manifest


def _check(model: AdaptedModel, index: Index, config: InfluenceConfig, out_folder: Path) -> Factors:
    factors = Scorer.of(index, model).factors
    # 1 before version 4, no part before version 5
    before = {"sketch_rate": 1, "sketch_part": "0.0"}
    stated = {**before, **index.manifest.header["parameters"]}
    mine = config.published()
    for name in sorted({*stated, *mine}):
        if name not in _FREE and stated.get(name) != mine.get(name):
            raise InfluenceError(
                f"The index was built with {name} {stated.get(name)}, not {mine.get(name)}."
            )
    if out_folder.resolve() == index.folder.resolve():
        raise InfluenceError("A revised index stands beside the old one, in another folder.")
    return factors


# What decides how a pass is cut, or whether it is made, but not what comes out.
_FREE = frozenset({"shard_records", "batch_tokens", "drift_max"})


def _rows_of(index: Index, kept: Sequence[int]) -> dict[str, NDArray[Any]]:
    return {
        "codes": np.asarray(index.codes)[kept],
        "norms": np.asarray(index.norms)[kept],
        "vectors": np.asarray(index.vectors)[kept],
    }


def _add(sums: NDArray[np.int64], group_ids: list[str], index: Index, anew: set[str]) -> None:
    row_of = {name: row for row, name in enumerate(group_ids)}
    for row, name in enumerate(index.manifest.group_ids):
        if name not in anew:
            sums[row_of[name]] += index.sums[row]


def _check_drift(lengths: Sequence[float], clip: float, config: InfluenceConfig) -> None:
    """The clip is a percentile of norms; the appended records' own must be near it."""
    if len(lengths) < config.fit_min:  # too few for a percentile
        return
    found = float(np.percentile(lengths, config.clip_percentile))
    if not clip / config.drift_max <= found <= clip * config.drift_max:
        raise DriftError(
            f"The appended records' gradients have norm {found:.3g} where those of the fit had "
            f"{clip:.3g}, further apart than {config.drift_max:g} times. Build the index anew."
        )
