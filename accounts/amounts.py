"""Amounts as people read and write them: OPEN with up to 18 decimals, exact in both ways."""

import re
from decimal import Context, Decimal

from accounts.fields import WEI_LIMIT

WEI_PER_OPEN = 10**18
# Room for 2**256 wei with all its digits on both sides of the point.
EXACT = Context(prec=200)
AMOUNT = re.compile(r"(?P<whole>\d{1,60})(?:\.(?P<part>\d{1,18}))?", re.ASCII)


def shifted(number: Decimal, places: int) -> Decimal:
    """`number` times ten to the `places`, exactly: Decimal alone rounds at 28 digits."""
    return EXACT.scaleb(number, places)


def open_text(wei: int) -> str:
    """1500000000000000000 -> "1.5"."""
    whole, part = divmod(abs(wei), WEI_PER_OPEN)
    digits = f"{part:018d}".rstrip("0")
    return ("-" if wei < 0 else "") + str(whole) + (f".{digits}" if digits else "")


def parse_open(text: str) -> int:
    """ "1.5" -> 1500000000000000000. Raises ValueError with a sentence for people.

    Anything but a positive decimal below 2**256 wei is refused.
    """
    match = AMOUNT.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            "Write the amount in OPEN, for example 1.5, with at most 18 digits after the point."
        )
    wei = int(match["whole"]) * WEI_PER_OPEN + int((match["part"] or "0").ljust(18, "0"))
    if wei == 0:
        raise ValueError("An amount must be more than zero.")
    if wei >= WEI_LIMIT:
        raise ValueError("An amount must stay below 2**256 wei.")
    return wei
