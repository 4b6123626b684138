"""What an index commits to: one Merkle root over its header, its groups and all their records.

    root = tree [ header, group, group, ... ]          groups by id
    group leaf = {group, count, records_root, sum_sha256}
    records_root = tree [ record, record, ... ]        records of the group by id
    record leaf = {record, content_hash, tokens_sha256, sketch_sha256, norm, vector_sha256}

Leaves are canonical JSON (RFC 8785), trees are those of RFC 9162. The group's sum is the exact
integer sum of the vectors whose hashes its records commit to, so an auditor who computes some of
the vectors again can add them up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.translog import canonical, merkle


@dataclass(frozen=True, slots=True)
class RecordEntry:
    """A record in the index; its position is its row in the sketches."""

    record_id: str
    group_id: str
    content_hash: str
    tokens_sha256: str

    def to_json(self) -> dict[str, str]:
        return {
            "record": self.record_id,
            "group": self.group_id,
            "content_hash": self.content_hash,
            "tokens_sha256": self.tokens_sha256,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, str]) -> RecordEntry:
        return cls(value["record"], value["group"], value["content_hash"], value["tokens_sha256"])


def record_leaf(entry: RecordEntry, code: bytes, norm: int, vector_sha256: bytes) -> bytes:
    return canonical.dumps(
        {
            "record": entry.record_id,
            "content_hash": entry.content_hash,
            "tokens_sha256": entry.tokens_sha256,
            "sketch_sha256": hashlib.sha256(code).hexdigest(),
            "norm": norm,
            "vector_sha256": vector_sha256.hex(),
        }
    )


def group_entry(
    group_id: str, record_leaves: Iterable[bytes], count: int, total: NDArray[np.int64]
) -> dict[str, Any]:
    """A group's line in the manifest; its canonical form is its leaf."""
    return {
        "group": group_id,
        "count": count,
        "records_root": merkle.root(record_leaves).hex(),
        "sum_sha256": sum_sha256(total),
    }


def sum_sha256(total: NDArray[np.int64]) -> str:
    """Hex SHA-256 of a group's sum as little-endian 64-bit integers."""
    return hashlib.sha256(np.ascontiguousarray(total, dtype="<i8").tobytes()).hexdigest()


def vector_sha256(vector: NDArray[np.int16]) -> bytes:
    """SHA-256 of a record's quantised vector as little-endian 16-bit integers."""
    return hashlib.sha256(np.ascontiguousarray(vector, dtype="<i2").tobytes()).digest()


def index_root(header: Mapping[str, Any], groups: Iterable[Mapping[str, Any]]) -> str:
    """Hex root over the header and the groups' lines, in the order of the manifest."""
    leaves = [canonical.dumps(dict(header)), *(canonical.dumps(dict(group)) for group in groups)]
    return merkle.root(leaves).hex()
