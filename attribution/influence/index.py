"""The index of one adapter: a folder of memory-mapped integers and their manifest. No torch.

    manifest.json     header, groups, root, and the hash and size of every file
    records.jsonl     one line a record, in the order of the rows below, by group and then by id
    codes.npy         (records, bytes) uint8, a bit for `sketch_rate` coordinates
    norms.npy         (records,) uint16
    vectors.npy       (records, 32) uint8, SHA-256 of each record's quantised vector
    sums.npy          (groups, width) int64, what is paid from
    coordinates.npy   (width,) int64, which coordinates of the whitened eigenbasis, strongest first
    weights.npy       (sketch width,) uint8, how much each sketched coordinate counts
    factors.npz       the curvature: eigenvectors and inverse roots of each block
    null.npy          (records, 2 or more) int64, what foreign records score; where there were any

Opening reads the manifest and checks the files; scoring touches only sums and sketches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.influence import commit, confidence, scores, trellis
from attribution.influence.commit import RecordEntry
from attribution.influence.confidence import Confidence, Null
from attribution.influence.errors import IndexFileError
from attribution.influence.quantise import Query
from attribution.translog import canonical

FORMAT = "openledger-index/1"
MANIFEST = "manifest.json"
ARRAYS = ("codes", "norms", "vectors", "sums", "coordinates", "weights")
FILES = ("records.jsonl", "factors.npz", *(f"{name}.npy" for name in ARRAYS))
NULL = "null.npy"


@dataclass(frozen=True, slots=True)
class IndexManifest:
    """What an index is and what it commits to. ``header`` and ``groups`` are what is hashed."""

    header: Mapping[str, Any]
    groups: Sequence[Mapping[str, Any]]
    files: Mapping[str, Mapping[str, Any]]
    root: str

    def to_bytes(self) -> bytes:
        return canonical.dumps(
            {
                "header": dict(self.header),
                "groups": [dict(group) for group in self.groups],
                "files": {name: dict(file) for name, file in self.files.items()},
                "root": self.root,
            }
        )

    @classmethod
    def read(cls, path: Path) -> IndexManifest:
        """Raises IndexFileError where it is missing, no manifest, or its root does not fit it."""
        try:
            value = canonical.loads(path.read_bytes())
            manifest = cls(value["header"], value["groups"], value["files"], value["root"])
            stated = manifest.header["format"]
        except FileNotFoundError as error:
            raise IndexFileError(path, "it is missing.") from error
        except (ValueError, KeyError, TypeError) as error:
            raise IndexFileError(path, f"it is no manifest ({error}).") from error
        if stated != FORMAT:
            raise IndexFileError(path, f"its format is {stated!r}, not {FORMAT!r}.")
        if commit.index_root(manifest.header, manifest.groups) != manifest.root:
            raise IndexFileError(path, "its root is not the root of what it lists.")
        return manifest

    @property
    def file_names(self) -> tuple[str, ...]:
        """Every file of the index but the manifest."""
        return (*FILES, NULL) if self.header.get("confidence") else FILES

    @property
    def group_ids(self) -> list[str]:
        return [str(group["group"]) for group in self.groups]

    @property
    def counts(self) -> dict[str, int]:
        """Records in each group."""
        return {str(group["group"]): int(group["count"]) for group in self.groups}


@dataclass(frozen=True, slots=True)
class Scores:
    """An answer's integer influences: of every group, and of every record in row order.
    ``confidence`` is None where the index has no null."""

    groups: dict[str, int]
    records: list[tuple[str, int]]
    query: Query
    confidence: Confidence | None = None

    def top_records(self, count: int) -> list[tuple[str, int]]:
        """The records that helped most, best first, ties by id."""
        helped = [pair for pair in self.records if pair[1] > 0]
        return sorted(helped, key=lambda pair: (-pair[1], pair[0]))[:count]


class Index:
    """An opened index. Open it with ``Index.open``."""

    def __init__(
        self, folder: Path, manifest: IndexManifest, arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.codes: NDArray[np.uint8] = arrays["codes"]
        self.norms: NDArray[np.uint16] = arrays["norms"]
        self.vectors: NDArray[np.uint8] = arrays["vectors"]
        self.sums: NDArray[np.int64] = arrays["sums"]
        self.coordinates: NDArray[np.int64] = arrays["coordinates"]
        self.weights: NDArray[np.uint8] = arrays["weights"]
        stated = manifest.header.get("confidence")
        self.null = Null.read(stated, arrays["null"]) if stated else None

    @classmethod
    def open(cls, folder: Path | str, *, verify: bool = True) -> Index:
        """Open the index in ``folder``.

        ``verify`` reads every file once and compares its hash; without it only sizes are looked
        at. Raises IndexFileError for a file that is missing, truncated or altered.
        """
        folder = Path(folder)
        manifest = IndexManifest.read(folder / MANIFEST)
        for name in manifest.file_names:
            check_file(folder / name, manifest.files.get(name), verify=verify)
        arrays = {name: _map(folder / f"{name}.npy") for name in ARRAYS}
        if stated := manifest.header.get("confidence"):
            check_null(folder / NULL, stated)
            arrays["null"] = _map(folder / NULL)
        index = cls(folder, manifest, arrays)
        index._check_shapes()
        return index

    @cached_property
    def records(self) -> list[RecordEntry]:
        path = self.folder / "records.jsonl"
        try:
            with path.open("rb") as lines:
                return [RecordEntry.from_json(json.loads(line)) for line in lines]
        except (OSError, ValueError, KeyError) as error:
            raise IndexFileError(path, f"it cannot be read ({error}).") from error

    def score(self, query: Query) -> Scores:
        """Score an answer's sketch against all groups and all records.

        Raises ValueError where the sketch has another width than the index.
        """
        if query.codes.shape != self.coordinates.shape:
            raise ValueError(
                f"The sketch has {query.codes.shape[0]} coordinates, the index has "
                f"{self.coordinates.shape[0]}."
            )
        by_group = scores.group_scores(self.sums, query)
        by_record = self.record_scores(query)
        return Scores(
            groups=dict(zip(self.manifest.group_ids, by_group, strict=True)),
            records=[
                (entry.record_id, int(score))
                for entry, score in zip(self.records, by_record, strict=True)
            ],
            query=query,
            confidence=self._judge(by_record, query),
        )

    def record_scores(self, query: Query) -> NDArray[np.int64]:
        """Scores of all sketches, (records,)."""
        return scores.record_scores(
            self.codes,
            self.norms,
            self.weights,
            query,
            self.sketch_block,
            self.sketch_rate,
            self.sketch_twice,
        )

    @property
    def sketch_rate(self) -> int:
        """How many coordinates a bit of a sketch tells; 1 before version 4 of the method."""
        stated = self.manifest.header["parameters"]
        wanted = int(stated.get("sketch_rate", 1))
        return trellis.rate_of(len(self.weights), int(stated["sketch_width"]), wanted)

    @property
    def sketch_twice(self) -> int:
        """How many coordinates have two signs; none before version 5 of the method."""
        stated = self.manifest.header["parameters"]
        if not float(stated.get("sketch_part", 0)):
            return 0
        width = int(stated["sketch_width"])
        return trellis.twice_of(len(self.weights), width, self.sketch_rate)

    @property
    def sketched_by(self) -> dict[str, Any]:
        """The parameters that sketches depend on, as they were in the method of this index."""
        stated = self.manifest.header["parameters"]
        return {
            "sketch_width": int(stated["sketch_width"]),
            "sketch_block": self.sketch_block,
            "sketch_rate": int(stated.get("sketch_rate", 1)),
            "sketch_part": float(stated.get("sketch_part", 0)),
        }

    @property
    def sketch_block(self) -> int:
        """How many coordinates the sketches mix; 1 in indexes of methods before version 3."""
        return int(self.manifest.header["parameters"].get("sketch_block", 1))

    def _judge(self, by_record: NDArray[np.int64], query: Query) -> Confidence | None:
        if self.null is None:
            return None
        rows = confidence.rows_by_group(self.manifest.counts)
        return confidence.judge(self.null, by_record, query, len(self.weights), rows)

    def committed_root(self) -> str:
        """The root made again from the published files: records, sketches, norms and sums."""
        leaves: dict[str, list[bytes]] = {name: [] for name in self.manifest.group_ids}
        for row, entry in enumerate(self.records):
            leaf = commit.record_leaf(
                entry, self.codes[row].tobytes(), int(self.norms[row]), self.vectors[row].tobytes()
            )
            leaves[entry.group_id].append(leaf)
        groups = [
            commit.group_entry(name, leaves[name], len(leaves[name]), self.sums[row])
            for row, name in enumerate(leaves)
        ]
        return commit.index_root(self.manifest.header, groups)

    def _check_shapes(self) -> None:
        count, groups = int(self.manifest.header["record_count"]), len(self.manifest.groups)
        width = int(self.manifest.header["width"])
        sketch_width = int(self.manifest.header["sketch_width"])
        signs = sketch_width + self.sketch_twice
        wanted: dict[str, tuple[int, ...]] = {
            "codes": (count, trellis.code_bytes(signs, self.sketch_rate)),
            "norms": (count,),
            "vectors": (count, 32),
            "sums": (groups, width),
            "coordinates": (width,),
            "weights": (sketch_width,),
        }
        if self.null is not None and not is_null(self.null.records.shape, count):
            raise IndexFileError(self.folder / NULL, f"its shape is {self.null.records.shape}.")
        for name, shape in wanted.items():
            found = getattr(self, name).shape
            if found != shape:
                path = self.folder / f"{name}.npy"
                raise IndexFileError(path, f"its shape is {found}, not {shape}.")


def check_file(path: Path, stated: Mapping[str, Any] | None, *, verify: bool) -> None:
    """Raises IndexFileError unless the file is there as the manifest states it."""
    if stated is None:
        raise IndexFileError(path, "the manifest does not name it.")
    if not path.is_file():
        raise IndexFileError(path, "it is missing.")
    size = path.stat().st_size
    if size != stated["size"]:
        raise IndexFileError(path, f"it is truncated: {size} of {stated['size']} bytes.")
    if verify and file_sha256(path) != stated["sha256"]:
        raise IndexFileError(path, "it was altered: its hash is not the one in the manifest.")


def check_null(path: Path, stated: Mapping[str, Any]) -> None:
    """That the null is the one under the root; the list of files is not. Raises IndexFileError."""
    if file_sha256(path) != stated["null_sha256"]:
        raise IndexFileError(path, "it was altered: its hash is not the one under the root.")


def is_null(shape: tuple[int, ...], count: int) -> bool:
    """Whether it is of so many records: two moments, or three and the directions."""
    return len(shape) == 2 and shape[0] == count and (shape[1] == 2 or shape[1] > 3)


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _map(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise IndexFileError(path, f"it is no array ({error}).") from error
    return array
