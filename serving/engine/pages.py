"""Which pages of the cache belong to whom, and which prompts' beginnings are there already.

A page holds the keys and values of 16 tokens of one row. Full pages stay after their row ended, as
long as nobody needs the room, under a name that covers everything that led to them: the owner, the
adapter and all tokens up to the page's end. A prompt that begins with the same tokens, asked by the
same owner of the same adapter, starts behind them; the owner is part of the name so that the time
to a first token tells nobody what another has asked. No torch here.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence


class Pages:
    """For the scheduler's thread alone."""

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size
        self._free = list(range(count - 1, -1, -1))
        self._users = [0] * count
        self._names: dict[int, bytes] = {}
        self._named: dict[bytes, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()  # named, without a user; oldest first
        self.hits = 0  # tokens that were not computed again
        self.asked = 0  # tokens of prompts

    @property
    def used(self) -> int:
        """Pages of running rows."""
        return self.count - len(self._free) - len(self._idle)

    @property
    def kept(self) -> int:
        """Pages that only wait for a prompt that begins like theirs."""
        return len(self._idle)

    def needed(self, tokens: int) -> int:
        return -(-tokens // self.size)

    def begin(
        self, names: Sequence[bytes], tokens: int, prompt: int
    ) -> tuple[list[int], int] | None:
        """Pages for a row of `tokens` at most, and how many tokens of its prompt they hold.

        `names` are those of the prompt's full pages (`names_of`). None where there is no room now.
        """
        held: list[int] = []
        # The last token of a prompt is computed always: its logits are the answer's beginning.
        for name in names[: (prompt - 1) // self.size]:
            page = self._named.get(name)
            if page is None:
                break
            held.append(page)
        more = self.needed(tokens) - len(held)
        idle = len(self._idle) - sum(page in self._idle for page in held)
        if more > len(self._free) + idle:
            return None
        for page in held:
            self._users[page] += 1
            self._idle.pop(page, None)
        self.asked += prompt
        self.hits += len(held) * self.size
        return held + [self._take() for _ in range(more)], len(held) * self.size

    def name(self, pages: Sequence[int], names: Sequence[bytes]) -> None:
        """Say what the first pages of a row hold now, so that others may begin with them."""
        for page, name in zip(pages, names, strict=False):
            if name not in self._named and page not in self._names:
                self._named[name], self._names[page] = page, name

    def end(self, pages: Sequence[int]) -> None:
        """Give a row's pages back; the named ones are kept until their room is needed."""
        for page in reversed(pages):  # a row's last pages are dropped before its first
            self._users[page] -= 1
            if self._users[page]:
                continue
            if page in self._names:
                self._idle[page] = None
            else:
                self._free.append(page)

    def _take(self) -> int:
        if self._free:
            page = self._free.pop()
        else:
            page, _ = self._idle.popitem(last=False)
            del self._named[self._names.pop(page)]
        self._users[page] = 1
        return page


def names_of(
    tokens: Sequence[int],
    size: int,
    *,
    owner: str,
    adapter: str | None,
    known: Sequence[bytes] = (),
) -> list[bytes]:
    """A name for each full page of `tokens`; `known` are those of the first pages."""
    names = list(known)
    root = f"{owner}\0{adapter or ''}".encode()
    last = names[-1] if names else hashlib.sha256(root).digest()
    for start in range(len(names) * size, len(tokens) - size + 1, size):
        last = hashlib.sha256(last + array("q", tokens[start : start + size]).tobytes()).digest()
        names.append(last)
    return names
