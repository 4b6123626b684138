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

# Vowel signs and the like of the scripts of South and South-East Asia. Python counts them to no
# word, but without them other words would be the same. Two of Khmer are invisible.
_MARKS = "".join(
    chr(code)
    for code in (*range(0x0900, 0x10A0), *range(0x1780, 0x1800))
    if unicodedata.category(chr(code)) in ("Mn", "Mc") and code not in (0x17B4, 0x17B5)
)
# Without spaces: Chinese, Japanese, Korean; Thai, Lao, Burmese and Khmer.
_SIGNS = "぀-ヿ㐀-鿿가-힣"
_SYLLABLES = "\u0e01-\u0e4f\u0e81-\u0ecf\u1000-\u103f\u1780-\u17dd"
_WORD = re.compile(
    rf"[{_SIGNS}]|[{_SYLLABLES}][{_MARKS}]*|(?:(?![{_SYLLABLES}_])[^\W{_SIGNS}]|[{_MARKS}])+"
)
# Only from a word's first sign on, so that a long word is read once.
_CODE = re.compile(r"`([^`\s]+)`|\b((?:\w{2,}(?:\.|::))+\w{2,}|\w+_\w+|\w+(?=\(\)))")
# Accents of Latin, Greek and Cyrillic; signs of other scripts carry meaning.
_ACCENTS = re.compile("[\u0300-\u036f]")


@dataclass(frozen=True, slots=True)
class Folded:
    """`head`: the words that ask (all turns but the assistant's); `body`: the words that answer.
    Plain text has no head. `codes`: identifiers of a programming language in the head, or in a text
    that has none, each as its letters."""

    head: tuple[str, ...]
    body: tuple[str, ...]
    codes: frozenset[str] = frozenset()

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
        return Folded((), words(payload["text"]), codes(payload["text"]))
    turns = payload["messages"]
    asking = "\n".join(turn["content"] for turn in turns if turn["role"] != ASSISTANT)
    answering = "\n".join(turn["content"] for turn in turns if turn["role"] == ASSISTANT)
    return Folded(words(asking), words(answering), codes(asking))


def words(text: str) -> tuple[str, ...]:
    """The words of a text, folded."""
    return tuple(_WORD.findall(_alike(text)))


def codes(text: str) -> frozenset[str]:
    """The identifiers in a text, each as its letters: backticked ones without a space,
    names of several parts (`os.path`, `std::sort`, `call_later`), names that are called."""
    found = (quoted or bare for quoted, bare in _CODE.findall(_alike(text)))
    return frozenset(letters for one in found if (letters := "".join(_WORD.findall(one))))


def _alike(text: str) -> str:
    """The text with all that changes only its looks folded away."""
    if not text.isascii():
        text = "".join(map(_digit, unicodedata.normalize("NFKC", text))).translate(_looks())
        text = "".join(sign for sign in text if unicodedata.category(sign) != "Cf")
        text = _ACCENTS.sub("", unicodedata.normalize("NFKD", text))
        text = unicodedata.normalize("NFC", text)
    return text.casefold()


def _digit(sign: str) -> str:
    """A digit of any script by its value: the Persian 5 looks like an o."""
    value = unicodedata.decimal(sign, None)
    return sign if value is None else str(value)


@cache
def _looks() -> dict[int, str]:
    """Signs beyond ASCII that look like an ASCII letter or digit, with that one."""
    found: dict[int, str] = {}
    for sign, alike in confusables.confusables_data.items():
        if len(sign) != 1 or sign.isascii():
            continue
        plain = [one["c"] for one in alike if one["c"].isascii() and one["c"].isalnum()]
        plain = [one for one in plain if len(one) == 1]
        # No letter is a digit, or each Russian word with a б would be a number.
        if plain and not (plain[0].isdigit() and sign.isalpha()):
            # Unicode takes a capital I for an l; we compare by case-folded letters.
            found[ord(sign)] = "i" if sign.isupper() and plain == ["l"] else plain[0]
    # A capital Russian letter may look like a Latin one and its small one not: it is one letter.
    for code, plain_one in list(found.items()):
        for other in (chr(code).lower(), chr(code).upper()):
            if len(other) == 1 and not other.isascii():
                found.setdefault(ord(other), plain_one)
    return found
