"""A receipt is checked offline: a true one holds, and whatever is changed in it is seen."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from attribution.translog import canonical
from attribution.translog.__main__ import main
from attribution.translog.checkpoint import SigningKey, VerifierKey, open_checkpoint
from attribution.translog.log import Log
from attribution.translog.money import PARTS, compute_shares
from attribution.translog.tiles import MemoryStore
from attribution.translog.verify import verify

ORIGIN = "ledger.test/log"
KEY = SigningKey(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(32)))
STRANGER = SigningKey(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(range(32))))

RECEIPT = {
    "id": "0197a1b2-0000-7000-8000-000000000001",
    "salt": "00ff",
    "evidence": {"query": [3, -1, "2"], "sums": {"anna": [1, 1, 1], "ben": ["5", 0, 1]}},
    "influence": {"groups": {"anna": 4, "ben": "17"}},
    "shares": {"anna": 190_476_190, "ben": 809_523_810},
}


def bundle_of(receipt: dict[str, Any]) -> dict[str, Any]:
    log = Log(MemoryStore(), ORIGIN)
    leaf = {"kind": "receipt", "receipt": receipt["id"], "sha256": canonical.sha256(receipt)}
    early = log.append(0, [b"one", b"two"])
    head = log.append(2, [canonical.dumps(leaf), b"four", b"five"])
    return {
        "format": "openledger-receipt/1",
        "receipt": receipt,
        "leaf": leaf,
        "index": 2,
        "size": 5,
        "proof": [step.hex() for step in log.inclusion_proof(2, 5)],
        "checkpoint": log.sign(head, [KEY]),
        "log_key": str(KEY.verifier),
        "consistency": {
            "checkpoint": log.sign(early, [KEY]),
            "proof": [step.hex() for step in log.consistency_proof(2, 5)],
        },
    }


BUNDLE = bundle_of(RECEIPT)


def outcomes(bundle: Any, **known: Any) -> dict[str, bool | None]:
    return {check.name: check.holds for check in verify(bundle, **known).checks}


def test_a_true_receipt_holds_in_every_part() -> None:
    assert outcomes(BUNDLE, key=KEY.verifier) == {
        "schema": True,
        "receipt": True,
        "inclusion": True,
        "checkpoint": True,
        "consistency": True,
        "scores": True,
        "outcome": None,
        "merge": None,
        "shares": True,
        "confidence": None,
        "credits": None,
        "fee": None,
        "owner": None,
    }


def test_a_key_from_the_file_is_named_as_such() -> None:
    report = verify(BUNDLE)
    assert report.holds
    assert "taken from the file" in report.checks[1].detail


def test_what_the_file_does_not_carry_is_left_open() -> None:
    bundle = bundle_of({"id": "x"})
    del bundle["consistency"], bundle["receipt"]
    found = outcomes(bundle, key=KEY.verifier)
    left = {name for name, holds in found.items() if holds is None}
    open_ones = {"receipt", "consistency", "scores", "shares", "confidence", "credits"}
    assert left == open_ones | {"fee", "merge", "outcome", "owner"}


def changed(*path: Any, to: Any) -> dict[str, Any]:
    bundle = copy.deepcopy(BUNDLE)
    place: Any = bundle
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return bundle


def forged(receipt: dict[str, Any]) -> dict[str, Any]:
    """A file whose log does carry the forged receipt: only recomputing can tell."""
    return bundle_of({**RECEIPT, **receipt})


@pytest.mark.parametrize(
    ("check", "bundle"),
    [
        ("schema", []),
        ("schema", changed("format", to="other/1")),
        ("schema", changed("index", to=True)),
        ("schema", changed("proof", to="")),
        ("schema", changed("receipt", to="")),
        ("receipt", changed("receipt", "salt", to="00fe")),
        ("receipt", changed("receipt", "big", to=2**60)),
        ("inclusion", changed("leaf", "sha256", to="0" * 64)),
        ("inclusion", changed("index", to=3)),
        ("inclusion", changed("size", to=4)),
        ("inclusion", changed("proof", to=BUNDLE["proof"][:-1])),
        ("inclusion", changed("proof", 0, to="zz")),
        ("inclusion", changed("proof", 0, to=7)),
        ("checkpoint", changed("checkpoint", to=BUNDLE["consistency"]["checkpoint"][:-8])),
        ("consistency", changed("consistency", "proof", to=[])),
        ("consistency", changed("consistency", to={})),
        ("scores", forged({"influence": {"groups": {"anna": 5, "ben": 17}}})),
        ("scores", forged({"influence": {"groups": {"anna": 4}}})),
        ("scores", forged({"evidence": {"query": [3.0], "sums": {}}})),
        ("shares", forged({"shares": {"anna": 190_476_191, "ben": 809_523_809}})),
        ("shares", forged({"shares": {"anna": PARTS}})),
        ("shares", forged({"shares": {"anna": "-x"}})),
    ],
)
def test_what_was_changed_is_seen(check: str, bundle: Any) -> None:
    assert outcomes(bundle, key=KEY.verifier)[check] is False
    assert not verify(bundle, key=KEY.verifier).holds


def test_a_checkpoint_by_a_stranger_is_not_the_logs() -> None:
    assert outcomes(BUNDLE, key=STRANGER.verifier)["checkpoint"] is False


def test_the_head_that_a_reader_kept_must_be_the_one_proven() -> None:
    kept = open_checkpoint(BUNDLE["consistency"]["checkpoint"], [KEY.verifier], ORIGIN)
    assert outcomes(BUNDLE, key=KEY.verifier, since=kept)["consistency"] is True
    newer = open_checkpoint(BUNDLE["checkpoint"], [KEY.verifier], ORIGIN)
    assert outcomes(BUNDLE, key=KEY.verifier, since=newer)["consistency"] is False
    without = {name: value for name, value in BUNDLE.items() if name != "consistency"}
    assert outcomes(without, key=KEY.verifier, since=kept)["consistency"] is False


SIGNED_BYTES = canonical.dumps({key: BUNDLE[key] for key in ("receipt", "leaf", "proof")})


@given(st.integers(0, len(SIGNED_BYTES) * 8 - 1))
def test_no_single_flipped_bit_in_what_is_proven_holds(bit: int) -> None:
    flipped = bytearray(SIGNED_BYTES)
    flipped[bit // 8] ^= 1 << bit % 8
    try:
        parts = canonical.loads(bytes(flipped))
    except canonical.CanonicalError:
        return
    if parts == canonical.loads(SIGNED_BYTES):
        return  # another case of a hex digit: the same value
    bundle = {**BUNDLE, **dict.fromkeys(("receipt", "leaf", "proof")), **parts}
    same_proof = (
        isinstance(parts.get("proof"), list)
        and [str(step).lower() for step in parts["proof"]] == BUNDLE["proof"]
    )
    if same_proof and all(parts.get(name) == BUNDLE[name] for name in ("receipt", "leaf")):
        return
    assert not verify(bundle, key=KEY.verifier).holds


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.integers(-(10**30), 10**30)))
def test_shares_add_up_and_follow_the_scores(scores: dict[str, int]) -> None:
    shares = compute_shares(scores)
    positive = sum(score for score in scores.values() if score > 0)
    assert sum(shares.values()) == (PARTS if positive else 0)
    for name, part in shares.items():
        assert abs(part * positive - PARTS * scores[name]) < positive


def test_ties_go_by_id() -> None:
    assert compute_shares({"b": 1, "a": 1, "c": 1}) == {
        "a": 333_333_334,
        "b": 333_333_333,
        "c": 333_333_333,
    }


def test_the_command_says_what_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, kept = tmp_path / "receipt.json", tmp_path / "kept.txt"
    file.write_text(json.dumps(BUNDLE))
    kept.write_text(BUNDLE["consistency"]["checkpoint"])
    key = str(KEY.verifier)
    assert main(["verify", str(file), "--key", key, "--since", str(kept)]) == 0
    assert "the receipt holds" in capsys.readouterr().out

    file.write_text(json.dumps(changed("index", to=1)))
    assert main(["verify", str(file), "--format", "json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["holds"] is False
    assert [check["name"] for check in report["checks"] if check["holds"] is False] == ["inclusion"]


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff", b'{"a":1,"a":1}'])
def test_the_command_names_an_unreadable_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    file = tmp_path / "receipt.json"
    file.write_bytes(content)
    assert main(["verify", str(file)]) == 2
    assert str(file) in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "missing.json")]) == 2
    assert main(["verify", str(file), "--key", "nonsense"]) == 2


def test_the_verifier_needs_the_standard_library_and_cryptography_alone(tmp_path: Path) -> None:
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps(BUNDLE))
    program = (
        "import sys; from attribution.translog.__main__ import main; "
        f"code = main(['verify', {str(file)!r}]); "
        "there = {name.partition('.')[0] for name in sys.modules}; "
        "bad = {name for name in there if not name.startswith('_')} - sys.stdlib_module_names "
        "- {'attribution', 'cryptography', 'cffi'}; "
        "sys.stderr.write(str(bad)); "
        "sys.exit(9 if bad else code)"
    )
    assert VerifierKey.parse(BUNDLE["log_key"]) == KEY.verifier
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
