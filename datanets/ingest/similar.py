"""Whether two records say the same: the verdict on a pair, exact, and without a corpus.

Two measures of what they share, the better counts: words in any order (Dice, where a word that was
misspelt counts by its letters), and letters in order without white space. Both see through swapped
words, edits, case, punctuation and homoglyphs.

Honest records of one template share most words and are not the same: "Is Alport syndrome
inherited?" and "Is cystinosis inherited?" may have one answer. So what differs decides, too. They
are two records where each question names something that the other does not or one names something
more, where one has a number, a "not" or an identifier of code that the other has not, or where most
numbers differ. Long answers may tell that a name was left out or misspelt.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from rapidfuzz import process
from rapidfuzz.distance import OSA, Indel

from datanets.ingest.common_words import COMMON
from datanets.ingest.folding import Folded

NEAR = 0.85  # share of what both say, from which on they are the same
SHORT = 24  # words up to which every word of a plain text counts as a question's
MISSPELT = 0.7  # letters that two words share to be one word
# Words that differ, up to which misspelt ones are looked for: each is compared with each.
MOST_WORDS = 500
MOST_NAMES = 200
LONG = 14  # letters of a word in which two typing errors are still one word

# What turns a question round.
DENYING = frozenset({"no", "non", "not", "without", "never"})
# Digits anywhere, and Roman numerals, as in "type IIIB" with a letter, but for the words I and via.
_NUMBER = re.compile(r".*\d.*|(?!i$)[ivx]+|(?!via$|vie$|ixia$)[ivx]{2,}[a-h]")
# What a single letter numbers that stands behind it.
_LETTERED = frozenset({"type", "types", "group", "class", "grade", "stage", "factor", "vitamin"})


def near(a: Folded, b: Folded) -> float:
    """The share of what two records say that both say; 0 where they are not the same."""
    if a.letters == b.letters:
        # Emojis and signs alone fold to nothing, which is not the same.
        return 1.0 if a.letters else 0.0
    if differ(a, b):
        return 0.0
    found = similarity(a, b)
    return found if found >= NEAR else 0.0


def cost(a: Folded, b: Folded) -> int:
    """Nanoseconds that `near` takes at most, about: it grows with both lengths."""
    if a.letters == b.letters:
        return 0
    pairs = min(len(a.words), MOST_WORDS) * min(len(b.words), MOST_WORDS)
    return len(a.letters) * len(b.letters) // 64 + 30 * pairs


def similarity(a: Folded, b: Folded) -> float:
    """0 to 1: the share of letters or of words that both have, whichever is more. The share of
    letters counts as 0 where it is less than NEAR."""
    by_letters = Indel.normalized_similarity(a.letters, b.letters, score_cutoff=NEAR)
    if by_letters >= NEAR:
        return by_letters
    words_a, words_b = a.words, b.words
    # Cheap and never too low, before misspelt words are looked for.
    most = 2 * min(len(words_a), len(words_b)) / (len(words_a) + len(words_b) or 1)
    if most < NEAR:
        return by_letters
    shared = shared_words(words_a, words_b)
    return max(by_letters, 2 * shared / (len(words_a) + len(words_b)))


def differ(a: Folded, b: Folded) -> bool:
    """Whether what differs makes them two records, whatever they share."""
    mine, other = asking(asked(a)), asking(asked(b))
    return (
        (ask_differently(mine, other) and not _answers_tell(a, b, mine, other))
        or _other_codes(a, b)
        or _other_numbers(a.words, b.words)
    )


@dataclass(frozen=True, slots=True)
class Asking:
    """A question as it is compared: `names` say what about, `marks` are numbers and denials,
    `others` are common words."""

    letters: str
    names: frozenset[str]
    marks: frozenset[str]
    others: frozenset[str]


def asking(words: Sequence[str]) -> Asking:
    lettered = {b for a, b in itertools.pairwise(words) if a in _LETTERED and len(b) == 1}
    marks = lettered | {word for word in words if word in DENYING or is_number(word)}
    names = frozenset(word for word in words if word not in COMMON) - marks
    return Asking("".join(words), names, frozenset(marks), frozenset(words) - names - marks)


def may_ask_alike(a: Asking, b: Asking) -> bool:
    """Whether two questions are about the same, as far as one sees without the answers."""
    return not ask_differently(a, b) or _share_most(a, b)


def ask_differently(a: Asking, b: Asking) -> bool:
    """Whether two questions are about different things. Thousands of one template meet here, so
    it is quick where they share no name."""
    if a.letters == b.letters:
        return False
    if a.marks != b.marks:
        return True
    only_a, only_b = a.names - b.names, set(b.names - a.names)
    if min(len(only_a), len(only_b)) > MOST_NAMES:
        return True
    left = 0
    for word in sorted(only_a):
        other = next((name for name in sorted(only_b) if _is_misspelt(word, name)), None)
        only_b.discard(other or "")
        left += other is None
    if left and only_b:
        return True
    # A name may stand for a common word ("remedies" for "treatments"), or it was added.
    return left > len(b.others - a.others) or len(only_b) > len(a.others - b.others)


def _answers_tell(a: Folded, b: Folded, mine: Asking, other: Asking) -> bool:
    """Whether the answers tell that a name was only left out of one question, or misspelt in it:
    that answer still has the name, and neither has what stands in its place."""
    if min(len(a.body), len(b.body)) <= SHORT or not _share_most(mine, other):
        return False
    said_a, said_b = frozenset(a.body), frozenset(b.body)
    only_a, only_b = mine.names - other.names, other.names - mine.names
    both, either = said_a & said_b, said_a | said_b
    return any(
        named and named <= both and not instead & either
        for named, instead in ((only_a, only_b), (only_b, only_a))
    )


def _share_most(a: Asking, b: Asking) -> bool:
    """Whether the same numbers stand in both, and at most as many names in one alone as in both."""
    shared = len(a.names & b.names)
    return a.marks == b.marks and max(len(a.names), len(b.names)) <= 2 * shared


def asked(one: Folded) -> tuple[str, ...]:
    """The words by which two records of one template differ: the question, or a short text."""
    if one.head:
        return one.head
    return one.body if len(one.body) <= SHORT else ()


def shared_words(a: Sequence[str], b: Sequence[str]) -> float:
    """How many words of one the other has as well, in whatever order. A misspelt one counts by its
    letters; a number is never misspelt."""
    left, right = Counter(a), Counter(b)
    both = left & right
    shared = float(both.total())
    rest = sorted((right - both).elements())
    missing = sorted((left - both).elements())
    if max(len(missing), len(rest)) > MOST_WORDS:
        return shared
    rest = [word for word in rest if not is_number(word)]
    for word in missing:
        place, score = _most_like(word, rest)
        if place >= 0:
            shared += score
            del rest[place]
    return shared


@lru_cache(maxsize=65_536)
def is_number(word: str) -> bool:
    return _NUMBER.fullmatch(word) is not None


def _most_like(word: str, others: Sequence[str]) -> tuple[int, float]:
    """The place of the word that is most like it, -1 where none is, and how like. None of the
    others is a number."""
    if len(word) < 4 or is_number(word):
        return -1, MISSPELT
    of_like_length = [one if abs(len(word) - len(one)) <= 3 else None for one in others]
    found = process.extractOne(
        word, of_like_length, scorer=OSA.normalized_similarity, score_cutoff=MISSPELT
    )
    return (found[2], found[1]) if found else (-1, MISSPELT)


def _is_misspelt(word: str, other: str) -> bool:
    """Whether a name is another with a typing error, a long one with two: names of one field may
    differ in a syllable."""
    most = 2 if max(len(word), len(other)) >= LONG else 1
    if min(len(word), len(other)) < 4 or abs(len(word) - len(other)) > most:
        return False
    return OSA.distance(word, other, score_cutoff=most) <= most


def _other_codes(a: Folded, b: Folded) -> bool:
    """Whether one asks about an identifier that the other does not write, with or without its dots
    and quotes: "stdev" and "pstdev" are no typing errors of each other."""
    asked_a, asked_b = "".join(asked(a)), "".join(asked(b))
    if not asked_a or not asked_b:
        return False
    only_a, only_b = a.codes - b.codes, b.codes - a.codes
    if max(len(only_a), len(only_b)) > MOST_NAMES:
        return True
    return any(code not in asked_b for code in only_a) or any(
        code not in asked_a for code in only_b
    )


def _other_numbers(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether each has numbers that the other has not, more than they share."""
    left = Counter(filter(is_number, a))
    right = Counter(filter(is_number, b))
    only = min((left - right).total(), (right - left).total())
    return only > (left & right).total()
