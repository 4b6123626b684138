"""What a block's header says of its events: a Bloom filter over their addresses and topics.

2,048 bits, three of them for each address and topic. It never denies what is there, and at times
speaks of what is not. Source: Ethereum Yellow Paper, section 4.3.1, functions M and M_3:2048.
"""

from __future__ import annotations

from ledger.chain.keccak import keccak256

BYTES = 256


def may_hold(bloom: bytes, value: bytes) -> bool:
    """Whether an event with this address or topic may be in the block; True without a filter."""
    if len(bloom) != BYTES:
        return True
    digest = keccak256(value)
    return all(_has(bloom, int.from_bytes(digest[at : at + 2]) % 2048) for at in (0, 2, 4))


def _has(bloom: bytes, bit: int) -> bool:
    return bool(bloom[BYTES - 1 - bit // 8] >> (bit % 8) & 1)
