"""Whether two records say the same: the verdict on a pair, exact, and without a corpus.

Two measures of what they share, the better counts: words in any order (Dice, where a word that was
misspelt counts by its letters), and letters in order without white space. Both see through swapped
words, edits, case, punctuation and homoglyphs.

Honest records of one template share most words and are not the same: "Is Alport syndrome
inherited?" and "Is cystinosis inherited?" may have one answer. So what differs decides, too. They
are two records where each question names something that the other does not, where one has a number
or a "not" that the other has not, or where most numbers of the two differ.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from rapidfuzz.distance import OSA, Indel

from datanets.ingest.common_words import COMMON
from datanets.ingest.folding import Folded

NEAR = 0.8  # share of what both say, from which on they are the same
SHORT = 24  # words up to which every word of a plain text counts as a question's
MISSPELT = 0.7  # letters that two words share to be one word
LONG = 10  # letters of a word in which two typing errors are still one word

# What turns a question round.
DENYING = frozenset({"no", "non", "not", "without", "never"})
# Digits anywhere, and Roman numerals but for the word I.
_NUMBER = re.compile(r".*\d.*|(?!i$)[ivx]+")


def near(a: Folded, b: Folded) -> float:
    """The share of what two records say that both say; 0 where they are not the same."""
    if a.letters == b.letters:
        return 1.0
    if differ(a, b):
        return 0.0
    found = similarity(a, b)
    return found if found >= NEAR else 0.0


def similarity(a: Folded, b: Folded) -> float:
    """0 to 1: the share of letters or of words that both have, whichever is more."""
    by_letters = Indel.normalized_similarity(a.letters, b.letters)
    if by_letters >= NEAR:
        return by_letters
    words_a, words_b = a.words, b.words
    # Cheap and never too low, before misspelt words are looked for.
    most = 2 * min(len(words_a), len(words_b)) / (len(words_a) + len(words_b) or 1)
    if most < NEAR:
        return by_letters
    shared = unmatched(words_a, words_b)[2]
    return max(by_letters, 2 * shared / (len(words_a) + len(words_b)))


def differ(a: Folded, b: Folded) -> bool:
    """Whether what differs makes them two records, whatever they share."""
    return ask_differently(asked(a), asked(b)) or _other_numbers(a.words, b.words)


def ask_differently(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether two questions, as `asked` has them, are about different things."""
    if "".join(a) == "".join(b):
        return False
    only_a, only_b, _ = unmatched(a, b, is_strict=True)
    if any(is_number(word) or word in DENYING for word in [*only_a, *only_b]):
        return True
    return _names(only_a) and _names(only_b)


def asked(one: Folded) -> tuple[str, ...]:
    """The words by which two records of one template differ: the question, or a short text."""
    if one.head:
        return one.head
    return one.body if len(one.body) <= SHORT else ()


def unmatched(
    a: Sequence[str], b: Sequence[str], *, is_strict: bool = False
) -> tuple[list[str], list[str], float]:
    """Words of each that the other has not, and how many they share. A misspelt pair is matched
    and counts by its letters; a number is never misspelt. `is_strict`: a misspelt word has one
    typing error, a long one two, since names of one field may differ in a syllable."""
    left, right = Counter(a), Counter(b)
    both = left & right
    shared = float(both.total())
    only_a, only_b = [], sorted((right - both).elements())
    for word in sorted((left - both).elements()):
        place, score = _misspelt(word, only_b, is_strict)
        if place >= 0:
            shared += score
            del only_b[place]
        else:
            only_a.append(word)
    return only_a, only_b, shared


def is_number(word: str) -> bool:
    return _NUMBER.fullmatch(word) is not None


def _misspelt(word: str, others: Sequence[str], is_strict: bool) -> tuple[int, float]:
    """The place of the word that is most like it, -1 where none is, and how like."""
    place, best = -1, MISSPELT
    if len(word) < 4 or is_number(word):
        return place, best
    if is_strict:
        best = max(best, 1 - (1 if len(word) < LONG else 2) / len(word))
    for number, other in enumerate(others):
        if abs(len(word) - len(other)) <= 3:
            score = OSA.normalized_similarity(word, other, score_cutoff=best)
            if score >= best and not is_number(other):
                place, best = number, score
    return place, best


def _names(words: Sequence[str]) -> bool:
    return any(word not in COMMON for word in words)


def _other_numbers(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether each has numbers that the other has not, more than they share."""
    left = Counter(filter(is_number, a))
    right = Counter(filter(is_number, b))
    only = min((left - right).total(), (right - left).total())
    return only > (left & right).total()
