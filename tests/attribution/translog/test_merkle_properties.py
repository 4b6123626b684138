"""Proofs hold for every tree and index, and stop holding when a single bit moves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.translog import merkle

leaves = st.lists(st.binary(max_size=8), min_size=1, max_size=70)


def tree_of(data: list[bytes]) -> merkle.MemoryTree:
    return merkle.MemoryTree(merkle.leaf_hash(leaf) for leaf in data)


def recursive_root(data: list[bytes]) -> bytes:
    """MTH word by word as RFC 9162 2.1.1 defines it: the oracle."""
    if not data:
        return merkle.EMPTY_ROOT
    if len(data) == 1:
        return merkle.leaf_hash(data[0])
    split = 1
    while split * 2 < len(data):
        split *= 2
    return merkle.node_hash(recursive_root(data[:split]), recursive_root(data[split:]))


def flip(value: bytes, bit: int) -> bytes:
    number = int.from_bytes(value) ^ (1 << bit)
    return number.to_bytes(len(value))


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_all_ways_to_a_root_agree_with_the_definition(data: list[bytes]) -> None:
    tree = tree_of(data)
    assert merkle.root(data) == recursive_root(data) == tree.root()
    for size in range(len(data) + 1):
        assert tree.root(size) == recursive_root(data[:size])


@given(leaves, st.data())
def test_a_compact_range_goes_on_where_it_was_stopped(
    data: list[bytes], draw: st.DataObject
) -> None:
    stop = draw.draw(st.integers(0, len(data)))
    first = merkle.CompactRange()
    for leaf in data[:stop]:
        first.append(merkle.leaf_hash(leaf))
    second = merkle.CompactRange(first.size, first.hashes)
    for leaf in data[stop:]:
        second.append(merkle.leaf_hash(leaf))
    assert second.root() == recursive_root(data)
    assert first.root() == recursive_root(data[:stop])


@given(leaves, st.data())
def test_an_inclusion_proof_holds_and_no_flipped_bit_does(
    data: list[bytes], draw: st.DataObject
) -> None:
    tree = tree_of(data)
    size = draw.draw(st.integers(1, len(data)))
    index = draw.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(index, size, tree.node)
    leaf, root = merkle.leaf_hash(data[index]), tree.root(size)
    merkle.verify_inclusion(leaf, index, size, proof, root)

    parts = [leaf, root, *proof]
    part, bit = draw.draw(st.integers(0, len(parts) - 1)), draw.draw(st.integers(0, 255))
    parts[part] = flip(parts[part], bit)
    with pytest.raises(merkle.ProofError):
        merkle.verify_inclusion(parts[0], index, size, parts[2:], parts[1])


@given(leaves, st.data())
def test_an_inclusion_proof_holds_for_no_other_length(
    data: list[bytes], draw: st.DataObject
) -> None:
    tree = tree_of(data)
    index = draw.draw(st.integers(0, len(data) - 1))
    proof = merkle.inclusion_proof(index, len(data), tree.node)
    leaf = merkle.leaf_hash(data[index])
    for wrong in [[*proof, tree.root()], proof[:-1]]:
        if wrong != proof:
            with pytest.raises(merkle.ProofError):
                merkle.verify_inclusion(leaf, index, len(data), wrong, tree.root())


@given(leaves, st.data())
def test_a_consistency_proof_holds_and_no_flipped_bit_does(
    data: list[bytes], draw: st.DataObject
) -> None:
    tree = tree_of(data)
    second = draw.draw(st.integers(1, len(data)))
    first = draw.draw(st.integers(1, second))
    proof = merkle.consistency_proof(first, second, tree.node)
    old, new = tree.root(first), tree.root(second)
    merkle.verify_consistency(first, second, proof, old, new)

    parts = [old, new, *proof]
    part, bit = draw.draw(st.integers(0, len(parts) - 1)), draw.draw(st.integers(0, 255))
    parts[part] = flip(parts[part], bit)
    with pytest.raises(merkle.ProofError):
        merkle.verify_consistency(first, second, parts[2:], parts[0], parts[1])


@given(leaves, st.data())
def test_a_rewritten_past_is_never_consistent(data: list[bytes], draw: st.DataObject) -> None:
    tree = tree_of(data)
    first = draw.draw(st.integers(1, len(data)))
    changed = list(data)
    where = draw.draw(st.integers(0, first - 1))
    changed[where] += b"!"
    proof = merkle.consistency_proof(first, len(data), tree_of(changed).node)
    with pytest.raises(merkle.ProofError):
        merkle.verify_consistency(
            first, len(data), proof, tree.root(first), recursive_root(changed)
        )


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3)])
def test_there_is_no_proof_for_a_leaf_that_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        merkle.inclusion_proof(index, size, tree_of([b"a", b"b", b"c"]).node)


@pytest.mark.parametrize(("first", "second"), [(0, 3), (3, 2)])
def test_there_is_no_consistency_proof_from_nothing_or_backwards(first: int, second: int) -> None:
    with pytest.raises(ValueError, match="no proof"):
        merkle.consistency_proof(first, second, tree_of([b"a", b"b", b"c"]).node)


def test_a_compact_range_refuses_hashes_that_do_not_fit_its_size() -> None:
    with pytest.raises(ValueError, match="2 subtrees"):
        merkle.CompactRange(3, [b"\0" * 32])
