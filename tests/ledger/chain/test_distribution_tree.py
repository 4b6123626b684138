"""Our trees are OpenZeppelin's trees, and a proof proves nothing but its own leaf."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.chain import distribution
from ledger.chain.addresses import from_bytes, from_private_key, is_address, to_checksum
from ledger.chain.keccak import keccak256
from ledger.chain.local import DEV_ADDRESSES, DEV_KEYS

DUMPS = Path(__file__).resolve().parents[4] / "shared/vectors/oz-merkle-tree/test/dumps"
DISTRIBUTOR = "0x5FbDB2315678afecb367f032d93F642f64180aa3"

addresses = st.binary(min_size=20, max_size=20).map(from_bytes)
amounts = st.dictionaries(addresses, st.integers(1, 2**128 - 1), min_size=1, max_size=40)


def tree_of(pairs: dict[str, int]) -> distribution.Tree:
    return distribution.build(chain_id=31337, distributor=DISTRIBUTOR, amounts=pairs.items())


def string_leaf(text: str) -> bytes:
    raw = text.encode()
    padded = raw.ljust(-(-len(raw) // 32) * 32, b"\0")
    return keccak256(keccak256((32).to_bytes(32) + len(raw).to_bytes(32) + padded))


@pytest.mark.parametrize(
    "name",
    ["standard-v1.sorted", "standard-v1.unsorted", "simple-v1.sorted", "simple-v1.unsorted"],
)
def test_it_builds_the_nodes_and_proofs_of_openzeppelins_own_dumps(name: str) -> None:
    path = DUMPS / f"{name}.1_0_6.json"
    if not path.exists():
        pytest.skip("the public test vectors are not beside this repository")
    dump = json.loads(path.read_text())
    values = [entry["value"] for entry in dump["values"]]
    # A simple tree's values are its leaves; a standard one's are encoded and hashed twice.
    simple = name.startswith("simple")
    leaves = [bytes.fromhex(value[2:]) if simple else string_leaf(value[0]) for value in values]

    nodes, places = distribution.merkle_tree(
        np.frombuffer(b"".join(leaves), dtype=np.uint8).reshape(-1, 32),
        sort=name.endswith(".sorted"),
    )

    assert ["0x" + node.tobytes().hex() for node in nodes] == dump["tree"]
    assert places.tolist() == [entry["treeIndex"] for entry in dump["values"]]
    root = bytes.fromhex(dump["tree"][0][2:])
    for number, place in enumerate(places.tolist()):
        proof = distribution.proof(nodes, place)
        assert ["0x" + node.hex() for node in proof] == proof_in(dump["tree"], place)
        for other, another in enumerate(leaves):
            good = distribution.verify(root=root, leaf=another, proof=proof)
            assert good == (other == number)


def proof_in(tree: list[str], place: int) -> list[str]:
    """The siblings on the way up in a published dump: node n's children are 2n + 1 and 2n + 2."""
    found = []
    while place:
        found.append(tree[place + 1 if place % 2 else place - 1])
        place = (place - 1) // 2
    return found


def test_the_hash_is_ethereums_keccak_and_not_sha3() -> None:
    empty = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak256(b"").hex() == empty


@pytest.mark.parametrize(("key", "address"), [*zip(DEV_KEYS, DEV_ADDRESSES, strict=True)])
def test_a_private_key_has_the_address_that_anvil_prints(key: str, address: str) -> None:
    assert from_private_key(key) == address


def test_an_address_with_a_wrong_checksum_is_refused() -> None:
    good = DEV_ADDRESSES[0]
    assert to_checksum(good.lower()) == good
    assert not is_address(good.replace("F", "f", 1))
    assert not is_address(good[:-1])
    assert not is_address(good + "0")


@given(amounts)
def test_every_account_proves_exactly_its_own_amount(pairs: dict[str, int]) -> None:
    tree = tree_of(pairs)
    for account, cumulative in pairs.items():
        claim = tree.claim(account)
        good = distribution.leaf(
            chain_id=31337, distributor=DISTRIBUTOR, account=account, cumulative=cumulative
        )
        more = distribution.leaf(
            chain_id=31337, distributor=DISTRIBUTOR, account=account, cumulative=cumulative + 1
        )
        assert claim.cumulative == cumulative
        assert distribution.verify(root=tree.root, leaf=good, proof=claim.proof)
        assert not distribution.verify(root=tree.root, leaf=more, proof=claim.proof)


@given(amounts, st.randoms())
def test_the_root_does_not_depend_on_the_order_of_the_accounts(pairs, random) -> None:
    shuffled = list(pairs.items())
    random.shuffle(shuffled)
    assert tree_of(pairs).root == tree_of(dict(shuffled)).root
    assert tree_of(pairs).total == sum(pairs.values())


def test_a_large_tree_is_that_of_the_slow_reference() -> None:
    """One leaf after the other, as OpenZeppelin's library builds it; LEAVES says how many."""
    count = int(os.environ.get("LEAVES", "10001"))
    pairs = {
        from_bytes(keccak256(number.to_bytes(8))[:20]): number**4 + 1 for number in range(count)
    }
    reference = SlowTree(31337, DISTRIBUTOR, pairs)

    tree = tree_of(pairs)

    assert tree.root == reference.nodes[0]
    assert tree.nodes.tobytes() == b"".join(reference.nodes)
    for account in random.Random(7).sample(sorted(pairs), 200):
        claim = tree.claim(account)
        assert (claim.cumulative, list(claim.proof)) == (pairs[account], reference.proof(account))


class SlowTree:
    """StandardMerkleTree written down as simply as its description, for comparing."""

    def __init__(self, chain_id: int, distributor: str, pairs: dict[str, int]) -> None:
        prefix = chain_id.to_bytes(32) + bytes(12) + bytes.fromhex(distributor[2:])
        self.leaf_of = {
            account: keccak256(
                keccak256(prefix + bytes(12) + bytes.fromhex(account[2:]) + wei.to_bytes(32))
            )
            for account, wei in pairs.items()
        }
        leaves = sorted(self.leaf_of.values())
        self.nodes = [b""] * (len(leaves) - 1) + leaves[::-1]
        for place in reversed(range(len(leaves) - 1)):
            self.nodes[place] = keccak256(
                b"".join(sorted((self.nodes[2 * place + 1], self.nodes[2 * place + 2])))
            )
        self.places = {node: place for place, node in enumerate(self.nodes)}

    def proof(self, account: str) -> list[bytes]:
        place, proof = self.places[self.leaf_of[account]], []
        while place:
            proof.append(self.nodes[place + 1 if place % 2 else place - 1])
            place = (place - 1) // 2
        return proof


@given(amounts)
def test_another_chain_or_contract_has_another_root(pairs: dict[str, int]) -> None:
    elsewhere = distribution.build(chain_id=1, distributor=DISTRIBUTOR, amounts=pairs.items())
    other = distribution.build(chain_id=31337, distributor=DEV_ADDRESSES[0], amounts=pairs.items())
    assert len({tree_of(pairs).root, elsewhere.root, other.root}) == 3


@pytest.mark.parametrize("amount", [0, -1, 2**128, True, 1.5])
def test_it_refuses_an_amount_that_is_not_whole_positive_wei(amount: object) -> None:
    with pytest.raises(distribution.DistributionError):
        tree_of({DEV_ADDRESSES[0]: amount})  # type: ignore[dict-item]


def test_it_refuses_the_same_address_in_two_spellings() -> None:
    pairs = [(DEV_ADDRESSES[0], 1), (DEV_ADDRESSES[0].lower(), 2)]
    with pytest.raises(distribution.DistributionError, match="twice"):
        distribution.build(chain_id=1, distributor=DISTRIBUTOR, amounts=pairs)


def test_it_refuses_a_distribution_to_nobody() -> None:
    with pytest.raises(distribution.DistributionError):
        tree_of({})
