"""From finished parts to an index: the files, then the manifest that names and commits them.

The manifest is written last and under its name at once, so a folder that has one is whole.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from attribution.influence import commit
from attribution.influence.commit import RecordEntry
from attribution.influence.confidence import Null
from attribution.influence.errors import BadShardError
from attribution.influence.examples import IndexedExample
from attribution.influence.files import whole, writing
from attribution.influence.fit import Selection
from attribution.influence.index import ARRAYS, MANIFEST, NULL, IndexManifest, file_sha256
from attribution.influence.shards import Shard, shard_path
from attribution.translog import canonical

# How the arrays of rows are stored.
DTYPES = {"codes": "|u1", "norms": "<u2", "vectors": "|u1"}


def entry_of(example: IndexedExample) -> RecordEntry:
    ids = np.asarray(example.input_ids, dtype="<i4").tobytes()
    mask = np.asarray(example.loss_mask, dtype=np.uint8).tobytes()
    tokens = hashlib.sha256(ids + mask).hexdigest()
    return RecordEntry(example.record_id, example.group_id, example.content_hash, tokens)


def gather(
    work: Path,
    rows: Path,
    group_ids: Sequence[str],
    selection: Selection,
    spans: Sequence[range],
    of: str,
    code_bytes: int,
) -> tuple[dict[str, Any], list[float]]:
    """The shards' rows one behind the other, their groups' sums added up, and all lengths. ``of``
    is the fit that they are made with, ``spans`` are the rows of each shard,
    ``code_bytes`` is how long a record's code is.

    Rows go to files in the folder ``rows`` as they come and are mapped from there, so that memory
    holds one shard and the sums, whatever the number of records; whoever gives the folder deletes
    it. Raises BadShardError for a shard in ``work`` that is missing, damaged or of another build,
    and IndexFileError for a file that cannot be written.
    """
    width = len(selection.coordinates)
    row_of = {name: row for row, name in enumerate(group_ids)}
    sums = np.zeros((len(group_ids), width), dtype=np.int64)
    columns = {"codes": code_bytes, "norms": None, "vectors": 32}
    lengths: list[float] = []
    with ExitStack() as stack:
        count = sum(len(span) for span in spans)
        files = {
            name: stack.enter_context(_rows_file(rows / f"{name}.npy", name, count, across))
            for name, across in columns.items()
        }
        for number, span in enumerate(spans):
            shard = _shard(shard_path(work, number), of, len(span), columns)
            for name, out in files.items():
                with writing(rows / f"{name}.npy"):
                    out.write(np.ascontiguousarray(getattr(shard, name)).tobytes())
            for name, total in zip(shard.groups, shard.sums, strict=True):
                sums[row_of[str(name)]] += total
            lengths += shard.lengths.tolist()
    mapped = {name: np.load(rows / f"{name}.npy", mmap_mode="r") for name in columns}
    return {"sums": sums, **mapped}, lengths


def _shard(path: Path, of: str, rows: int, columns: Mapping[str, int | None]) -> Shard:
    shard = Shard.load(path, of)
    if shard is None:
        raise BadShardError(path, path.name, "the shard is missing, damaged or of another build.")
    for name, across in columns.items():
        found, wanted = getattr(shard, name).shape, (rows,) if across is None else (rows, across)
        if found != wanted:
            reason = f"its {name} have the shape {found}, not {wanted}."
            raise BadShardError(path, path.name, reason)
    return shard


@contextmanager
def _rows_file(path: Path, name: str, count: int, across: int | None) -> Iterator[BinaryIO]:
    """An open .npy file whose rows are written as bytes. No mapping: a full disk would end the
    process, where a write that fails is told."""
    shape = (count,) if across is None else (count, across)
    with writing(path), path.open("wb") as out:
        header = {"descr": DTYPES[name], "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, header)
        yield out


def write(
    out_folder: Path,
    header: Mapping[str, Any],
    entries: Sequence[RecordEntry],
    arrays: Mapping[str, Any],
    factors_file: Path,
    null: Null | None = None,
) -> IndexManifest:
    """Write the index's files and its manifest. ``entries`` are in the order of the rows, by
    group and then by id; ``sums`` has a row for each group, by id.

    Raises IndexFileError naming the file that could not be written, such as on a full disk.
    """
    for name in ARRAYS:
        path = out_folder / f"{name}.npy"
        with writing(path):
            np.save(path, arrays[name], allow_pickle=False)
    with writing(out_folder / "records.jsonl") as path:
        path.write_bytes(b"".join(canonical.dumps(entry.to_json()) + b"\n" for entry in entries))
    with writing(out_folder / "factors.npz") as path:
        shutil.copyfile(factors_file, path)
    hashed = {
        f"{name}_sha256": file_sha256(out_folder / file)
        for name, file in (
            ("coordinates", "coordinates.npy"),
            ("weights", "weights.npy"),
            ("factors", "factors.npz"),
        )
    }
    full_header = {**header, **hashed}
    if null is not None:
        with writing(out_folder / NULL) as path:
            np.save(path, null.records, allow_pickle=False)
        full_header["confidence"] = null.published(file_sha256(out_folder / NULL))
    groups = _group_entries(entries, arrays)
    root = commit.index_root(full_header, groups)
    unlisted = IndexManifest(full_header, groups, {}, root)
    files = {
        name: {"size": (out_folder / name).stat().st_size, "sha256": file_sha256(out_folder / name)}
        for name in unlisted.file_names
    }
    manifest = replace(unlisted, files=files)
    with whole(out_folder / MANIFEST) as partial:
        partial.write_bytes(manifest.to_bytes())
    return manifest


def _group_entries(
    entries: Sequence[RecordEntry], arrays: Mapping[str, Any]
) -> list[dict[str, Any]]:
    leaves: dict[str, list[bytes]] = {}
    for row, entry in enumerate(entries):
        leaf = commit.record_leaf(
            entry,
            arrays["codes"][row].tobytes(),
            int(arrays["norms"][row]),
            arrays["vectors"][row].tobytes(),
        )
        leaves.setdefault(entry.group_id, []).append(leaf)
    return [
        commit.group_entry(name, leaves[name], len(leaves[name]), arrays["sums"][row])
        for row, name in enumerate(sorted(leaves))
    ]
