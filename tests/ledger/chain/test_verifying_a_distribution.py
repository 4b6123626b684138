"""Whoever has the published file rebuilds the root and a proof, with nothing of the application."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.translog import canonical
from ledger.chain import distribution, leaf_file, verifier
from ledger.chain.addresses import from_bytes
from ledger.chain.local import DEV_ADDRESSES

DISTRIBUTOR = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
HOUSE = Path(__file__).resolve().parents[3]
PAIRS = [(address, 10**18 + number) for number, address in enumerate(DEV_ADDRESSES[:5])]

addresses = st.binary(min_size=20, max_size=20).map(from_bytes)
amounts = st.dictionaries(addresses, st.integers(1, 2**128 - 1), min_size=1, max_size=20)


def tree_of(pairs: Any) -> distribution.Tree:
    return distribution.build(chain_id=31337, distributor=DISTRIBUTOR, amounts=pairs)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "leaves.json"
    with path.open("wb") as stream:
        leaf_file.write(stream, epoch=3, tree=tree_of(PAIRS))
    return path


def verify(file: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Run the verifier where neither Django nor web3 can be imported."""
    program = (
        "import sys; from runpy import run_module;"
        "sys.modules.update(dict.fromkeys(['django', 'web3', 'celery', 'psycopg']));"
        "run_module('ledger.chain.distribution', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "verify", str(file), *options],
        cwd=HOUSE,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_an_auditor_rebuilds_root_and_proof_from_the_file_alone(file: Path) -> None:
    tree = tree_of(PAIRS)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()

    status, answer = verify(
        file, "--root", tree.root_hex, "--data-hash", "0x" + digest, "--account", PAIRS[2][0]
    )

    assert (status, answer["ok"], answer["problems"]) == (0, True, [])
    assert (answer["epoch"], answer["accounts"]) == (3, 5)
    assert answer["total"] == str(sum(amount for _, amount in PAIRS))
    assert answer["claim"]["cumulative"] == str(PAIRS[2][1])
    assert distribution.verify(
        root=tree.root,
        leaf=bytes.fromhex(answer["claim"]["leaf"][2:]),
        proof=[bytes.fromhex(node[2:]) for node in answer["claim"]["proof"]],
    )


def test_another_root_another_hash_and_a_stranger_are_told(file: Path) -> None:
    other = "0x" + "ab" * 32

    status, answer = verify(file, "--root", other, "--data-hash", other, "--account", DISTRIBUTOR)

    assert (status, answer["ok"]) == (1, False)
    assert len(answer["problems"]) == 3


def test_a_file_with_a_changed_amount_does_not_bear_out_its_root(file: Path) -> None:
    file.write_text(file.read_text().replace(str(10**18 + 1), str(10**18 + 2)))

    published = leaf_file.read(file)

    assert [problem[:24] for problem in published.problems] == [
        "The file names the root ",
        f"The file names {published.total} wei"[:24],
    ]


@given(amounts)
def test_the_file_is_canonical_json_and_makes_its_tree_again(
    tmp_path_factory: pytest.TempPathFactory, pairs: dict[str, int]
) -> None:
    tree = tree_of(pairs.items())
    path = tmp_path_factory.mktemp("leaves") / "leaves.json"
    with path.open("wb") as stream:
        leaf_file.write(stream, epoch=1, tree=tree)

    assert canonical.is_canonical(path.read_bytes())
    published = leaf_file.read(path)
    assert (published.tree.root, published.total) == (tree.root, sum(pairs.values()))
    assert published.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert published.problems == []


@pytest.mark.parametrize("piece", [64, 100, 333])
def test_a_leaf_may_lie_across_two_pieces(
    file: Path, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaf_file, "PIECE", 1024)
    whole = leaf_file.read(file).tree.root
    monkeypatch.setattr(leaf_file, "PIECE", piece + 300)
    assert leaf_file.read(file).tree.root == whole == tree_of(PAIRS).root


def changed(old: str, new: str) -> Any:
    return lambda text: text.replace(old, new, 1)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-20],
        lambda text: text[: text.index('"root"') - 30],
        lambda text: text + "x" * 10_000,
        lambda text: "",
        changed(leaf_file.FORMAT, "something-else"),
        changed('"chain_id":"31337",', ""),
        changed('"100', '"00100'),
        changed('"100', '"-100'),
        changed(PAIRS[0][0], PAIRS[1][0]),
        changed(PAIRS[0][0], PAIRS[0][0].swapcase().replace("0X", "0x")),
        changed("uint256", "uint128"),
        changed('"leaves"', '"läaves"'),
    ],
)
def test_a_file_that_is_none_is_refused(
    file: Path, spoil: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(spoil(file.read_text()))
    with pytest.raises(ValueError):
        leaf_file.read(file)
    assert verifier.main(["verify", str(file)]) == 2
    assert json.loads(capsys.readouterr().out)["ok"] is False
