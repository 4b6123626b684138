"""Governed numbers for the ledger, which stands below the app that mirrors them.

`governance` hands its selector in when it starts, as pages hand their links to `accounts.pages`.
"""

from collections.abc import Callable

Source = Callable[[str], int]
_source: list[Source] = []


def provide(source: Source) -> None:
    """Say where governed numbers come from; the last one said counts."""
    _source[:] = [source]


def governed(key: str) -> int:
    """The number in force under a key that `governance.registry` declares.

    Raises KeyError for a key that is not declared.
    """
    return _source[0](key)
