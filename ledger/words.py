"""Amounts as people read and write them, refused in the ledger's words."""

from accounts import amounts
from accounts.amounts import WEI_PER_OPEN, open_text
from ledger.errors import InvalidAmount

__all__ = ["WEI_PER_OPEN", "open_text", "parse_open"]


def parse_open(text: str) -> int:
    """ "1.5" -> 1500000000000000000. Raises InvalidAmount for anything but a positive decimal."""
    try:
        return amounts.parse_open(text)
    except ValueError as error:
        raise InvalidAmount(str(error)) from error
