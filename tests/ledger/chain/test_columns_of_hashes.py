"""What is done for a million leaves at once equals what is done for one."""

from __future__ import annotations

import random

import numpy as np
import pytest

from ledger.chain import columns, distribution, keccak, keccak_many
from ledger.chain.addresses import from_bytes, to_checksum
from ledger.chain.keccak import keccak256

DISTRIBUTOR = "0x5FbDB2315678afecb367f032d93F642f64180aa3"


def column(count: int, width: int) -> np.ndarray:
    return np.random.default_rng(count + width).integers(0, 256, (count, width), dtype=np.uint8)


@pytest.fixture
def no_native_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keccak, "native", None)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 32, 64, 128, 134, 135])
def test_many_hashes_are_the_hashes_of_each(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = column(keccak_many.FEW, length)
    each = [keccak.portable(row.tobytes()) for row in messages]

    assert [row.tobytes() for row in keccak_many.keccak256_many(messages)] == each
    monkeypatch.setattr(keccak, "native", None)
    assert [row.tobytes() for row in keccak_many.keccak256_many(messages)] == each


@pytest.mark.usefixtures("no_native_hash")
def test_the_pieces_of_a_long_column_are_hashed_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = column(keccak_many.FEW * 2 + 3, 64)
    whole = keccak_many.keccak256_many(messages)
    monkeypatch.setattr(keccak_many, "CHUNK", 100)
    assert (keccak_many.keccak256_many(messages) == whole).all()


def test_a_message_longer_than_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match="135"):
        keccak_many.keccak256_many(column(1, 136))


def test_addresses_go_into_columns_and_come_back_with_their_checksums() -> None:
    rows = column(2000, 20)
    spelled = [from_bytes(row.tobytes()) for row in rows]

    assert (columns.parse_addresses(spelled) == rows).all()
    assert (columns.parse_addresses([one.lower() for one in spelled]) == rows).all()
    text = columns.address_text(rows).tobytes().decode()
    assert [text[start : start + 42] for start in range(0, len(text), 42)] == spelled


@pytest.mark.parametrize(
    "wrong", ["0x" + "g" * 40, "1x" + "1" * 40, "0x" + "1" * 39, "", "0x" + "é" * 40]
)
def test_what_is_no_address_is_refused_by_its_name(wrong: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        columns.parse_addresses([DISTRIBUTOR, wrong])


def test_a_mistyped_letter_is_found_among_many() -> None:
    wrong = DISTRIBUTOR.replace("F", "f", 1)
    with pytest.raises(ValueError, match="wrong checksum"):
        columns.parse_addresses([DISTRIBUTOR, wrong])


def test_rows_are_ordered_by_all_their_bytes() -> None:
    rows = column(500, 20)
    rows[:, :19] = rows[0, :19]
    ordered = [rows[number].tobytes() for number in columns.order(rows)]
    assert ordered == sorted(row.tobytes() for row in rows)


def test_the_smaller_of_two_hashes_stands_first() -> None:
    pairs = column(500, 64).reshape(-1, 2, 32)
    pairs[:250, :, :31] = pairs[:250, :1, :31]
    expected = [sorted(half.tobytes() for half in pair) for pair in pairs]
    columns.sort_pairs(pairs)
    assert [[half.tobytes() for half in pair] for pair in pairs] == expected


def test_a_tree_of_many_leaves_is_the_tree_that_a_loop_builds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three thousand leaves in pieces of 256 against the plain algorithm over lists."""
    monkeypatch.setattr(distribution, "ROWS", 256)
    dice = random.Random(7)
    pairs = [(from_bytes(dice.randbytes(20)), dice.randrange(1, 2**128)) for _ in range(3001)]

    tree = distribution.build(chain_id=31337, distributor=DISTRIBUTOR, amounts=pairs)

    leaves = sorted(
        distribution.leaf(chain_id=31337, distributor=DISTRIBUTOR, account=a, cumulative=c)
        for a, c in pairs
    )
    nodes = [b""] * (len(leaves) - 1) + leaves[::-1]
    for place in reversed(range(len(leaves) - 1)):
        nodes[place] = keccak256(b"".join(sorted(nodes[2 * place + 1 : 2 * place + 3])))
    assert [node.tobytes() for node in tree.nodes] == nodes
    assert list(tree.leaves()) == sorted(pairs, key=lambda pair: pair[0].lower())
    assert tree.total == sum(amount for _, amount in pairs)
    account, cumulative = pairs[17]
    claim = tree.claim(account.lower())
    leaf = distribution.leaf(
        chain_id=31337, distributor=DISTRIBUTOR, account=account, cumulative=cumulative
    )
    assert (claim.account, claim.cumulative) == (to_checksum(account), cumulative)
    assert distribution.verify(root=tree.root, leaf=leaf, proof=claim.proof)
    with pytest.raises(KeyError):
        tree.claim(DISTRIBUTOR)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64])
def test_a_leaf_is_found_among_the_nodes_by_its_hash(count: int) -> None:
    leaves = column(count, 32)
    nodes, places = distribution.merkle_tree(leaves)
    listed = [node.tobytes() for node in nodes]
    for number in range(count):
        assert distribution.place_of(listed, leaves[number].tobytes()) == places[number]
    assert distribution.place_of(listed, b"\0" * 32) is None
    assert distribution.place_of(listed, b"\xff" * 32) is None
