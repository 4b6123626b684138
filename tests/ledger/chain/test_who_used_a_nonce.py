"""Who used a nonce is found as far back as the node remembers, and no further."""

from __future__ import annotations

import pytest

from ledger.chain.client import ChainClient, RpcError

LAST = 1_000


class Forgetful(ChainClient):
    """A node whose account used one nonce in block `used`; it has states from `oldest` on."""

    def __init__(self, used: int, oldest: int) -> None:
        self.used, self.oldest = used, oldest
        self.asked = 0

    def nonce(self, address: str, block: int | str = "latest") -> int:
        self.asked += 1
        if int(block) < self.oldest:
            raise RpcError("eth_getTransactionCount", -32602, "BlockOutOfRangeError")
        return 8 if int(block) >= self.used else 7


@pytest.mark.parametrize("back", [0, 1, 2, 3, 5, 8, 63, 64, 65, 99, 126, 127])
def test_a_use_that_the_node_remembers_is_found(back: int) -> None:
    node = Forgetful(used=LAST - back, oldest=LAST - 128)
    low, high = node._around("0x0", 7, LAST)
    assert low <= LAST - back <= high
    assert node.asked < 20


@pytest.mark.parametrize("oldest", [1, 2, 3, 4, 7])
def test_a_chain_that_began_a_moment_ago_hides_nothing(oldest: int) -> None:
    node = Forgetful(used=oldest + 1, oldest=oldest)
    for last in range(oldest + 1, oldest + 40):
        low, high = node._around("0x0", 7, last)
        assert low <= oldest + 1 <= high


@pytest.mark.parametrize("back", [128, 129, 130, 500])
def test_the_oldest_state_is_as_far_as_it_looks(back: int) -> None:
    node = Forgetful(used=LAST - back, oldest=LAST - 128)
    assert node._around("0x0", 7, LAST) == (LAST - 128, LAST - 128)
