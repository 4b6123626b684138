"""StakePools' arithmetic in whole numbers, bit for bit as `StakePools.sol` has it.

What a stake has earned is not in the events; it follows from them and their seconds. A test reads
the same from the contract.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

RATE_SCALE = 1 << 32
INDEX_SCALE = 1 << 96


@dataclass(frozen=True, slots=True)
class Stream:
    """What a pool streams: wei, seconds; `rate` is wei a second times 2**32."""

    staked: int = 0
    left: int = 0
    rate: int = 0
    index: int = 0
    updated_at: int = 0

    def at(self, second: int) -> Stream:
        """The same once rewards have flowed up to `second`; time without stakes does not count."""
        if self.staked == 0 or self.left == 0:
            return replace(self, updated_at=second)
        due = max(0, second - self.updated_at) * self.rate // RATE_SCALE
        flowed = min(self.left, due)
        index = self.index + flowed * INDEX_SCALE // self.staked
        return replace(self, left=self.left - flowed, index=index, updated_at=second)

    def ends_in(self) -> int:
        """Seconds until nothing is left, if somebody is staked until then."""
        return -(-self.left * RATE_SCALE // self.rate) if self.left and self.rate else 0


def grown(staked: int, index: int, settled: int) -> int:
    """Wei that `staked` has earned since it was settled at the index `settled`."""
    return staked * (index - settled) // INDEX_SCALE
