"""A version's root can be computed by a stranger from the records file alone."""

import hashlib
import io
import json
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datanets.ingest.payload import content_hash
from datanets.ingest.versions import VersionError, VersionRecord, build, manifest


def record(number: int, text: str = "") -> VersionRecord:
    payload = {"text": text or f"Text {number}"}
    return VersionRecord(
        UUID(int=number), UUID(int=number % 3 + 1), "CC0-1.0", content_hash(payload), payload
    )


def stranger_root(records_file: bytes) -> str:
    """RFC 9162, section 2.1, written again from the text of the RFC."""

    def tree(leaves: list[bytes]) -> bytes:
        if len(leaves) == 1:
            return hashlib.sha256(b"\x00" + leaves[0]).digest()
        split = 1 << (len(leaves) - 1).bit_length() - 1
        return hashlib.sha256(b"\x01" + tree(leaves[:split]) + tree(leaves[split:])).digest()

    leaves = []
    for line in records_file.splitlines():
        values = json.loads(line)
        payload = values.pop("payload")
        canonical = json.dumps(payload, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        assert hashlib.sha256(canonical.encode()).hexdigest() == values["content_hash"]
        leaves.append(json.dumps(values, sort_keys=True, separators=(",", ":")).encode())
    return tree(leaves).hex()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=40))
def test_root_and_file_agree(texts: list[str]) -> None:
    out = io.BytesIO()
    built = build((record(n, text) for n, text in enumerate(texts, start=1)), out)
    assert built.root == stranger_root(out.getvalue())
    assert built.records_sha256 == hashlib.sha256(out.getvalue()).hexdigest()
    assert built.count == len(texts) == sum(built.contributors.values())


def test_any_change_changes_the_root() -> None:
    roots = {build([record(1, "a")], io.BytesIO()).root}
    other = record(1, "a")
    for changed in (
        record(1, "b"),
        record(2, "a"),
        VersionRecord(other.record, uuid4(), other.licence, other.content_hash, other.payload),
        VersionRecord(other.record, other.contributor, "MIT", other.content_hash, other.payload),
    ):
        roots.add(build([changed], io.BytesIO()).root)
    assert len(roots) == 5


@pytest.mark.parametrize(
    "records",
    [
        [],
        [record(2), record(1)],
        [record(1), record(1)],
        [VersionRecord(UUID(int=1), UUID(int=1), "MIT", "0" * 64, {"text": "x"})],
    ],
)
def test_what_cannot_be_a_version_is_refused(records: list[VersionRecord]) -> None:
    with pytest.raises(VersionError):
        build(records, io.BytesIO())


def test_the_manifest_binds_it_all() -> None:
    out = io.BytesIO()
    built = build([record(1), record(2)], out)
    text = manifest(
        built,
        datanet=UUID(int=9),
        number=2,
        licence="CC0-1.0",
        previous_root="ab",
        created_at="2026-11-21T12:00:00.000000Z",
    )
    assert json.loads(text) == {
        "datanet": str(UUID(int=9)),
        "number": 2,
        "root": built.root,
        "record_count": 2,
        "licence": "CC0-1.0",
        "contributors": {str(UUID(int=2)): 1, str(UUID(int=3)): 1},
        "records_sha256": hashlib.sha256(out.getvalue()).hexdigest(),
        "previous_root": "ab",
        "created_at": "2026-11-21T12:00:00.000000Z",
    }
