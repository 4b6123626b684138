"""Every public proof vector of the RFC 6962 tree behaves as its file says."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from attribution.translog import merkle

VECTORS = Path(__file__).resolve().parents[4] / "shared" / "vectors" / "rfc6962-merkle"

pytestmark = pytest.mark.skipif(not VECTORS.is_dir(), reason=f"no public test vectors in {VECTORS}")


def cases(kind: str) -> list[Any]:
    folder = VECTORS / "testdata" / kind
    return [
        pytest.param(json.loads(path.read_text()), id=str(path.relative_to(folder)))
        for path in sorted(folder.rglob("*.json"))
    ]


def proof_of(case: dict[str, Any]) -> list[bytes]:
    return [b64decode(value) for value in case["proof"] or []]


def holds(check: Any, *args: Any) -> bool:
    try:
        check(*args)
    except merkle.ProofError:
        return False
    return True


@pytest.mark.parametrize("case", cases("inclusion"))
def test_it_judges_an_inclusion_proof_as_the_vector_says(case: dict[str, Any]) -> None:
    verdict = holds(
        merkle.verify_inclusion,
        b64decode(case["leafHash"]),
        case["leafIdx"],
        case["treeSize"],
        proof_of(case),
        b64decode(case["root"]),
    )
    assert verdict is not case["wantErr"]


@pytest.mark.parametrize("case", cases("consistency"))
def test_it_judges_a_consistency_proof_as_the_vector_says(case: dict[str, Any]) -> None:
    verdict = holds(
        merkle.verify_consistency,
        case["size1"],
        case["size2"],
        proof_of(case),
        b64decode(case["root1"]),
        b64decode(case["root2"]),
    )
    assert verdict is not case["wantErr"]


def test_all_98_and_98_vectors_were_there() -> None:
    assert (len(cases("inclusion")), len(cases("consistency"))) == (98, 98)


def test_the_nine_reference_roots_and_all_node_hashes_are_ours() -> None:
    reference = json.loads((VECTORS / "reference.json").read_text())
    leaves = [bytes.fromhex(value) for value in reference["leaf_inputs_hex"]]
    roots = [merkle.root(leaves[:size]).hex() for size in range(len(leaves) + 1)]
    assert roots == reference["root_hashes_hex"]
    assert len(roots) == 9
    tree = merkle.MemoryTree(merkle.leaf_hash(leaf) for leaf in leaves)
    assert [[h.hex() for h in level] for level in tree.levels] == reference["node_hashes_hex"]


def test_leaf_and_node_hashes_are_those_of_the_reference() -> None:
    hasher = json.loads((VECTORS / "reference.json").read_text())["hasher"]
    assert merkle.leaf_hash(b"").hex() == hasher["empty_leaf"]
    assert merkle.leaf_hash(b"L123456").hex() == hasher["leaf_L123456"]
    assert merkle.node_hash(b"N123", b"N456").hex() == hasher["node_N123_N456"]
