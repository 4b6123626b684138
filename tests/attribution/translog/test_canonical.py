"""Canonical JSON is that of RFC 8785, and nothing ambiguous is read."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.translog import canonical

SHARED = Path(__file__).resolve().parents[4] / "shared" / "vectors"
JCS = SHARED / "rfc8785-jcs"
SUITE = SHARED / "json-test-suite" / "test_parsing"

needs_jcs = pytest.mark.skipif(not JCS.is_dir(), reason=f"no public test vectors in {JCS}")
needs_suite = pytest.mark.skipif(not SUITE.is_dir(), reason=f"no public test vectors in {SUITE}")

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    # Whole floats from 2**53 to 1e21 are written as integers that a strict reader refuses.
    | st.floats(allow_nan=False, allow_infinity=False).filter(
        lambda number: abs(number) < 2**53 or abs(number) >= 1e21
    )
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@needs_jcs
@pytest.mark.parametrize("name", ["arrays", "french", "structures", "unicode", "values", "weird"])
def test_it_writes_the_six_reference_files(name: str) -> None:
    source = (JCS / "testdata" / "input" / f"{name}.json").read_bytes()
    written = canonical.dumps(canonical.loads(source))
    assert written == (JCS / "testdata" / "output" / f"{name}.json").read_bytes()
    assert written == bytes.fromhex((JCS / "testdata" / "outhex" / f"{name}.txt").read_text())


def es6_numbers() -> Iterator[float]:
    """The sequence that the reference defines: listed, serial, then chained SHA-256 blocks."""
    readme = (JCS / "testdata" / "README.md").read_text()
    listed = readme[readme.index("staticU64s") : readme.index("staticF64s")]
    for word in re.findall(r"0x([0-9a-f]{16})n", listed):
        yield struct.unpack(">d", bytes.fromhex(word))[0]
    for serial in range(2000):
        yield struct.unpack(">d", (0x0010000000000000 + serial).to_bytes(8))[0]
    block = bytes(32)
    while True:
        block = hashlib.sha256(block).digest()
        for number in struct.unpack("<4d", block):
            if number != 0 and number - number == 0:
                yield number


@needs_jcs
@pytest.mark.parametrize("lines", [1000, 10_000, 100_000])
def test_numbers_are_written_as_ecmascript_writes_them(lines: int) -> None:
    expected = json.loads((JCS / "es6-number-sha256.json").read_text())["lines_sha256"]
    digest = hashlib.sha256()
    for number in islice(es6_numbers(), lines):
        bits = int.from_bytes(struct.pack(">d", number))
        digest.update(f"{bits:x},{canonical.dumps(number).decode()}\n".encode())
    assert digest.hexdigest() == expected[str(lines)]


@given(values)
def test_writing_and_reading_goes_round(value: Any) -> None:
    written = canonical.dumps(value)
    assert canonical.dumps(canonical.loads(written)) == written
    assert canonical.is_canonical(written)


@pytest.mark.parametrize(
    "value",
    [2**53, -(2**53), float("nan"), float("inf"), "\ud800", {1: "a"}, {"\ud800": 1}, object(), {1}],
)
def test_it_refuses_what_has_no_canonical_form(value: Any) -> None:
    with pytest.raises(canonical.CanonicalError):
        canonical.dumps(value)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":2}',
        b"NaN",
        b"[Infinity]",
        b"\xff",
        b"[" * 100_000,
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b"",
        b"1 2",
        b"9" * 5000,
    ],
)
def test_it_reads_no_ambiguous_or_hostile_text(text: bytes) -> None:
    with pytest.raises(canonical.CanonicalError):
        canonical.loads(text)


def test_brackets_within_strings_are_no_nesting() -> None:
    text = '"\\"' + "[" * 1000 + '"'
    assert canonical.loads(f'{{"a":{text}}}') == {"a": '"' + "[" * 1000}


@needs_suite
@pytest.mark.parametrize(
    "path", sorted(SUITE.glob("[yn]_*.json")) if SUITE.is_dir() else [], ids=lambda path: path.name
)
def test_it_accepts_and_refuses_as_the_parsing_suite_asks(path: Path) -> None:
    try:
        canonical.loads(path.read_bytes())
        accepted = True
    except canonical.CanonicalError:
        accepted = False
    # The suite asks parsers to accept a key that stands twice; here that is refused on purpose.
    expected = path.name.startswith("y_") and "duplicated_key" not in path.name
    assert accepted is expected


@pytest.mark.parametrize("text", [b'{"b":1,"a":2}', b"[1, 2]", b"1.0", b"{"])
def test_other_spellings_are_not_canonical(text: bytes) -> None:
    assert not canonical.is_canonical(text)


@given(values)
def test_the_quick_way_writes_what_the_slow_one_writes(value: Any) -> None:
    parts: list[str] = []
    canonical._write(value, parts)
    assert canonical.dumps(value) == "".join(parts).encode()


@pytest.mark.parametrize(
    "value",
    [2**53, [-(2**53)], {"a": [2**60]}, {"a": "\ud800"}, {1: "a"}, {"a": {1, 2}}, b"bytes"],
)
def test_the_quick_way_refuses_what_has_no_form(value: Any) -> None:
    with pytest.raises(canonical.CanonicalError):
        canonical.dumps(value)


def test_what_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(canonical.CanonicalError):
        canonical.dumps(value)
