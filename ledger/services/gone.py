"""Remembering the hashes of blocks that a reorganisation takes away."""

from collections.abc import Iterable
from datetime import datetime

from ledger.models import ChainBlock, GoneBlock


def remember_gone(*, blocks: Iterable[ChainBlock], at: datetime) -> None:
    """Keep the hashes of `blocks`, which the caller deletes in the same transaction."""
    GoneBlock.objects.bulk_create(
        [
            GoneBlock(chain_id=block.chain_id, number=block.number, hash=block.hash, gone_at=at)
            for block in blocks
        ],
        ignore_conflicts=True,
    )
