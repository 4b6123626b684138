"""How a copier changes a text so that it looks like another one, a kind at a time.

Each takes a text and a generator and changes its looks or few of its words: who changes what is
said has written another record.
"""

from __future__ import annotations

import random
from collections.abc import Callable

TYPING = 0.03  # of the letters
WORDS = 0.08  # of the words
ALIKE = str.maketrans("aceiopxyABEKMHOPCTX", "асеіорхуАВЕКМНОРСТХ")
SPACES = (" ", "  ", "\n", "\t", "\u00a0", "\u2009", " \u200b")
FILLING = (
    "really", "also", "often", "then", "usually", "indeed", "very", "mostly", "of", "and", "the",
    "generally", "known", "here", "however", "in", "well",
)  # fmt: skip

Edit = Callable[[str, random.Random], str]


def casing(text: str, draw: random.Random) -> str:
    return "".join(sign.upper() if draw.random() < 0.5 else sign.lower() for sign in text)


def white_space(text: str, draw: random.Random) -> str:
    return "".join(draw.choice(SPACES) if sign.isspace() else sign for sign in text)


def homoglyphs(text: str, draw: random.Random) -> str:
    return "".join(sign.translate(ALIKE) if draw.random() < 0.5 else sign for sign in text)


def typing_errors(text: str, draw: random.Random) -> str:
    found = []
    for sign in text:
        if sign.isalpha() and draw.random() < TYPING:
            found.append(draw.choice(("", sign + sign, draw.choice("etaoinsrhl"))))
        else:
            found.append(sign)
    return "".join(found)


def swaps(text: str, draw: random.Random) -> str:
    """Neighbouring words change places."""
    words, at = text.split(), 0
    while at + 1 < len(words):
        if draw.random() < 2 * WORDS:
            words[at], words[at + 1] = words[at + 1], words[at]
            at += 1
        at += 1
    return " ".join(words)


def words_out(text: str, draw: random.Random) -> str:
    words = text.split()
    return " ".join(w for w in words if draw.random() >= WORDS) or text


def words_in(text: str, draw: random.Random) -> str:
    found = []
    for word in text.split():
        found.append(word)
        if draw.random() < WORDS:
            found.append(draw.choice(FILLING))
    return " ".join(found)


def other_words(text: str, draw: random.Random) -> str:
    """Small words for others; names stay, or the record would be about something else."""
    return " ".join(
        draw.choice(FILLING) if len(word) < 6 and word.islower() and draw.random() < 2 * WORDS
        else word
        for word in text.split()
    )  # fmt: skip


def everything(text: str, draw: random.Random) -> str:
    """A few of them on top of each other."""
    for edit in draw.sample([casing, white_space, homoglyphs, swaps, words_out], 3):
        text = edit(text, draw)
    return text


KINDS: dict[str, Edit] = {
    "casing": casing,
    "white space": white_space,
    "homoglyphs": homoglyphs,
    "typing errors": typing_errors,
    "swapped words": swaps,
    "words left out": words_out,
    "words put in": words_in,
    "other small words": other_words,
    "three at once": everything,
}
