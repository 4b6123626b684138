"""Governed whole numbers beyond the split: each with its words, its unit, a default and bounds.

The contract keeps any number under any key of 32 bytes. What a key means stands here alone, so a
new governed value is one line of `GOVERNED` and one call of `governance.selectors.governed`. Until
the holders set a value its default is in force; a value outside the bounds, which a proposal that
was written past our forms can set, counts as the nearest bound.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

KEY_BYTES = 32
UINT256 = 2**256
DAY = 86_400
OPEN = 10**18


class Unit(StrEnum):
    """What a number counts, which decides how it is shown and typed in."""

    BASIS_POINTS = "basis points"
    SECONDS = "seconds"
    WEI = "wei"
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class Governed:
    """One governed number. `low` and `high` are bounds that are themselves allowed."""

    key: str
    label: str
    default: int
    unit: Unit
    low: int
    high: int
    explains: str

    def __post_init__(self) -> None:
        if not self.key.isascii() or not 0 < len(self.key) <= KEY_BYTES:
            raise ValueError(f"A key is 1 to {KEY_BYTES} letters of ASCII, not {self.key!r}.")
        if self.key.startswith("split."):
            raise ValueError("The split is set as a whole, by a proposal of its own.")
        if not 0 <= self.low <= self.default <= self.high < UINT256:
            raise ValueError(f"The default of {self.key} is not within its bounds.")

    @property
    def word(self) -> bytes:
        """The key as the contract has it."""
        return self.key.encode("ascii").ljust(KEY_BYTES, b"\0")

    def obeyed(self, value: int) -> int:
        """The value that is in force where the chain says `value`."""
        return min(max(value, self.low), self.high)


def _declared(values: Iterable[Governed]) -> dict[str, Governed]:
    found: dict[str, Governed] = {}
    for value in values:
        if value.key in found:
            raise ValueError(f"{value.key} is declared twice.")
        found[value.key] = value
    return found


# In the order of the parameters page: values of one subject beside each other.
GOVERNED: dict[str, Governed] = _declared(
    (
        Governed(
            "royalty.datanet_bps", "Datanet royalty", 1_000, Unit.BASIS_POINTS, 0, 5_000,
            "Part of what is credited in a derived Datanet's name that passes to the treasury of "
            "the Datanet it was derived from.",
        ),
        Governed(
            "royalty.model_bps", "Model royalty", 1_000, Unit.BASIS_POINTS, 0, 5_000,
            "Part of a model owner's part that passes to the owners of the models it was made "
            "from.",
        ),
        Governed(
            "royalty.depth", "Depth of royalties", 5, Unit.COUNT, 0, 10,
            "How many generations of ancestors a royalty reaches.",
        ),
        Governed(
            "retrieval.reward_bps", "Reward for retrieved records", 500, Unit.BASIS_POINTS, 0,
            5_000,
            "Part of the contributors' part of a fee that goes, record by record, to the "
            "contributors of the records that were put into the prompt.",
        ),
        Governed(
            "stake.contribution_min", "Smallest stake on a contribution", OPEN, Unit.WEI, 0,
            1_000_000 * OPEN,
            "What a contributor stakes at least where a contribution is staked.",
        ),
        Governed(
            "stake.return_seconds", "Time until a stake goes back", 14 * DAY, Unit.SECONDS, 60,
            365 * DAY,
            "How long after the last verdict on its records a contribution's stake stays locked.",
        ),
        Governed(
            "stake.locked_weight_bps", "Weight of a locked stake", 15_000, Unit.BASIS_POINTS,
            10_000, 50_000,
            "What a stake in a locked pool counts against one in a flexible pool when the "
            "stakers' part of fees is divided between pools.",
        ),
        Governed(
            "slash.redundant_bps", "Slash for redundant records", 1_000, Unit.BASIS_POINTS, 0,
            10_000, "Part of a contribution's stake that redundant records cost.",
        ),
        Governed(
            "slash.biased_bps", "Slash for biased records", 2_500, Unit.BASIS_POINTS, 0, 10_000,
            "Part of a contribution's stake that biased records cost.",
        ),
        Governed(
            "slash.adversarial_bps", "Slash for adversarial records", 10_000, Unit.BASIS_POINTS,
            0, 10_000, "Part of a contribution's stake that adversarial records cost.",
        ),
        Governed(
            "slash.appeal_seconds", "Time to appeal a slash", 7 * DAY, Unit.SECONDS, 60, 60 * DAY,
            "How long a slash can be appealed before it is final.",
        ),
        Governed(
            "slash.bond", "Bond of an appeal", OPEN, Unit.WEI, 0, 1_000_000 * OPEN,
            "What who appeals a slash sets aside, and loses where it is upheld.",
        ),
        Governed(
            "relay.gas_price", "Price of a relayed claim's gas", 10**7, Unit.WEI, 0, 10**12,
            "What a unit of gas costs by which the fee of a relayed claim is estimated; a claim "
            "counts 130,000 units.",
        ),
        Governed(
            "payout.push_below", "Earnings that are pushed", OPEN // 100, Unit.WEI, 0, 1_000 * OPEN,
            "Earnings below it are sent to the wallet in batches, of those who asked for that.",
        ),
        Governed(
            "payout.push_minimum", "Smallest push", 10**12, Unit.WEI, 1, OPEN,
            "Smaller earnings wait: the gas of sending them would cost more than they are worth.",
        ),
    )
)  # fmt: skip
