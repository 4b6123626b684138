"""A version: accepted records frozen under one Merkle root, with a manifest and a records file.

leaf: RFC 8785 bytes of {"content_hash", "contributor", "licence", "record"}. root: RFC 9162 tree
over the leaves in the order of their record ids. records file: one line a record, canonical JSON
of the leaf's fields and the payload. manifest: canonical JSON that binds all of it.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any
from uuid import UUID

from attribution.translog import canonical, merkle
from datanets.ingest.payload import Payload, content_hash


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One accepted record as a version keeps it."""

    record: UUID
    contributor: UUID
    licence: str
    content_hash: str
    payload: Payload


@dataclass
class Built:
    """What writing a version's records yields; root and hash are lowercase hex."""

    root: str = ""
    records_sha256: str = ""
    count: int = 0
    contributors: Counter[str] = field(default_factory=Counter)


class VersionError(ValueError):
    """The records given cannot make a version."""


def leaf(item: VersionRecord) -> bytes:
    """The canonical bytes that the Merkle tree hashes for one record."""
    return canonical.dumps(_leaf_fields(item))


def build(records: Iterable[VersionRecord], out: IO[bytes]) -> Built:
    """Write the records file to out; return root, hash and counts.

    records: in strictly rising order of their ids. Raises VersionError for another order, for no
    records and for a payload that does not match its hash. Memory: 32 bytes a record.
    """
    built, digest = Built(), hashlib.sha256()
    built.root = merkle.root(_write(records, out, built, digest)).hex()
    if not built.count:
        raise VersionError("A version needs at least one accepted record.")
    built.records_sha256 = digest.hexdigest()
    return built


def manifest(
    built: Built,
    *,
    datanet: UUID,
    number: int,
    licence: str,
    previous_root: str | None,
    created_at: str,
    derived_from: Mapping[str, Any] | None = None,
) -> bytes:
    """The version's manifest as canonical JSON. created_at: ISO 8601 in UTC; derived_from: the
    version of another Datanet whose records it holds, left out where there is none."""
    source = {"derived_from": dict(derived_from)} if derived_from else {}
    return canonical.dumps(
        {
            **source,
            "contributors": dict(built.contributors),
            "created_at": created_at,
            "datanet": str(datanet),
            "licence": licence,
            "number": number,
            "previous_root": previous_root,
            "record_count": built.count,
            "records_sha256": built.records_sha256,
            "root": built.root,
        }
    )


def _write(
    records: Iterable[VersionRecord], out: IO[bytes], built: Built, digest: "hashlib._Hash"
) -> Iterator[bytes]:
    last = -1
    for item in records:
        if item.record.int <= last:
            raise VersionError(f"Record {item.record} does not follow the order of ids.")
        last = item.record.int
        if content_hash(item.payload) != item.content_hash:
            raise VersionError(f"Record {item.record} does not match its content hash.")
        line = canonical.dumps({**_leaf_fields(item), "payload": item.payload}) + b"\n"
        out.write(line)
        digest.update(line)
        built.count += 1
        built.contributors[str(item.contributor)] += 1
        yield leaf(item)


def _leaf_fields(item: VersionRecord) -> dict[str, str]:
    return {
        "content_hash": item.content_hash,
        "contributor": str(item.contributor),
        "licence": item.licence,
        "record": str(item.record),
    }
