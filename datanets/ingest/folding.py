"""A text as it is compared with others: what changes only its looks is folded away.

NFKC, letters that look like Latin ones to those (Unicode's confusables, UTS 39), invisible
characters and accents out, case folded, then words: runs of letters and digits, and each sign of a
script that writes without spaces. Two texts that differ in case, white space, punctuation or
homoglyphs fold to the same letters.

Unlike the skeleton of UTS 39, ASCII is left as it is: there "1" and "l" are one, and numbers are
what honest records differ in.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

from confusable_homoglyphs import confusables

from datanets.ingest.payload import ASSISTANT, Payload

_WORD = re.compile(r"[぀-ヿ㐀-鿿가-힣]|[^\W_぀-ヿ㐀-鿿가-힣]+")
# Accents of Latin, Greek and Cyrillic; signs of other scripts carry meaning.
_ACCENTS = re.compile("[\u0300-\u036f]")


@dataclass(frozen=True, slots=True)
class Folded:
    """`head`: the words that ask (all turns but the assistant's); `body`: the words that answer.
    Plain text has no head."""

    head: tuple[str, ...]
    body: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        return self.head + self.body

    @property
    def letters(self) -> str:
        """Without spaces, since white space is the cheapest thing to change."""
        return "".join(self.words)


def fold(payload: Payload) -> Folded:
    """A record's payload as words."""
    if "text" in payload:
        return Folded((), words(payload["text"]))
    turns = payload["messages"]
    return Folded(
        words("\n".join(turn["content"] for turn in turns if turn["role"] != ASSISTANT)),
        words("\n".join(turn["content"] for turn in turns if turn["role"] == ASSISTANT)),
    )


def words(text: str) -> tuple[str, ...]:
    """The words of a text, folded."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_looks())
        text = "".join(sign for sign in text if unicodedata.category(sign) != "Cf")
        text = _ACCENTS.sub("", unicodedata.normalize("NFKD", text))
        text = unicodedata.normalize("NFC", text)
    return tuple(_WORD.findall(text.casefold()))


@cache
def _looks() -> dict[int, str]:
    """Signs beyond ASCII that look like an ASCII letter or digit, with that one."""
    found: dict[int, str] = {}
    for sign, alike in confusables.confusables_data.items():
        if len(sign) != 1 or sign.isascii():
            continue
        plain = [one["c"] for one in alike if one["c"].isascii() and one["c"].isalnum()]
        plain = [one for one in plain if len(one) == 1]
        if plain:
            # Unicode takes a capital I for an l; we compare by case-folded letters.
            found[ord(sign)] = "i" if sign.isupper() and plain == ["l"] else plain[0]
    return found
