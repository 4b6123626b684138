"""Which texts are taken for the same, and which that look alike are not."""

import random
from collections import Counter

import pytest

from datanets.ingest import similar
from datanets.ingest.folding import codes, fold, words
from datanets.ingest.prints import BANDS, cluster_hash, prints
from datanets.ingest.similar import is_number, near

QUESTION = "What are the treatments for Alport syndrome?"
ANSWER = (
    "There is no cure for the disease. Treatment begins with drugs that lower the pressure in the "
    "kidneys, such as ramipril, and goes on with dialysis or a transplant when they fail. Hearing "
    "is looked after from early childhood on, since 1 in 2 patients loses some of it."
)


def asked(question: str, answer: str = ANSWER):
    return fold(
        {
            "messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
        }
    )


NAMING = ANSWER.replace("the disease", "Alport syndrome")
HONEST = asked(QUESTION, NAMING)


def swapped(text: str) -> str:
    parts = text.split(" ")
    for at in range(0, len(parts) - 1, 4):
        parts[at], parts[at + 1] = parts[at + 1], parts[at]
    return " ".join(parts)


COPIES = {
    "case": asked(QUESTION.upper(), ANSWER.swapcase()),
    "white space": asked(QUESTION.replace(" ", "\u00a0\n "), ANSWER.replace("e ", "e\u200b  ")),
    "no space": asked(QUESTION, ANSWER.replace("the ", "the")),
    "punctuation": asked(f"«{QUESTION}»", ANSWER.replace(",", " –").replace(".", "…")),
    "homoglyphs": asked(QUESTION.replace("a", "а"), ANSWER.replace("e", "е").replace("o", "ο")),
    "full width": asked(QUESTION.replace("A", "Ａ"), ANSWER.replace("k", "𝐤")),
    "accents": asked(QUESTION.replace("o", "o\u0301"), ANSWER.replace("a", "ä")),
    "typing errors": asked(QUESTION.replace("treat", "tera"), ANSWER.replace("kidn", "kiddn")),
    "swapped words": asked(QUESTION, swapped(ANSWER)),
    "another common word": asked(QUESTION.replace("treatments", "remedies")),
    "words left out": asked(QUESTION, ANSWER.replace("There is no cure for the disease. ", "")),
    "a name left out": asked(QUESTION.replace(" Alport", ""), NAMING),
    "a name misspelt": asked(QUESTION.replace("Alport", "Apporrt"), NAMING),
}
OTHERS = {
    "a name left out of question and answer": asked(QUESTION.replace(" Alport", "")),
    "a name that the answer knows as well": asked(QUESTION.replace("Alport", "hearing"), NAMING),
    "a name more that no answer has": asked(
        QUESTION.replace("syndrome", "syndrome in dogs"), NAMING
    ),
    "another type": asked(QUESTION.replace("syndrome", "syndrome type A"), NAMING),
    "another name": asked(QUESTION.replace("Alport", "Sjögren")),
    "a number": asked(QUESTION.replace("syndrome", "syndrome type 2")),
    "a Roman number": asked(QUESTION.replace("syndrome", "syndrome type II")),
    "a denial": asked(QUESTION.replace("Alport", "non-Alport")),
    "another answer": asked(QUESTION, "The syndrome is rare and runs in families, mostly in men."),
}


CODE = "What does `statistics.NormalDist.stdev()` return in Python?"
CODE_ANSWER = "Return the square root of the sample variance of the distribution that was given."


@pytest.mark.parametrize(
    "question",
    [
        CODE.replace("stdev", "pstdev"),
        CODE.replace("stdev()", "stdev_all()"),
        CODE.replace("NormalDist", "normal_dists"),
        "What does `statistics.stdev()` return in Python?",
    ],
)
def test_another_identifier_is_another_record(question) -> None:
    """A letter may be all that two functions of one family differ in."""
    honest = asked(CODE, CODE_ANSWER)
    assert near(honest, asked(question, CODE_ANSWER)) == 0
    assert near(asked(question, CODE_ANSWER), honest) == 0
    assert near(fold({"text": CODE}), fold({"text": question})) == 0


@pytest.mark.parametrize(
    "question",
    [
        CODE.upper(),
        CODE.replace("`", ""),
        CODE.replace("`", "").replace(".", " ").replace("()", ""),
        CODE.replace(".", "::"),
        CODE.replace("t", "т"),
        CODE.replace("return", "give"),
    ],
)
def test_an_identifier_is_the_same_however_it_is_written(question) -> None:
    honest = asked(CODE, CODE_ANSWER)
    assert near(honest, asked(question, CODE_ANSWER)) >= 0.85
    assert near(asked(question, CODE_ANSWER), honest) >= 0.85


def test_a_long_word_without_a_space_is_read_quickly() -> None:
    """Were identifiers looked for from each letter on, this would take minutes."""
    for text in ("a" * 200_000, "ab." * 70_000 + "c", "`" * 200_000, "a_" * 100_000):
        assert len(codes(text)) <= 1


@pytest.mark.parametrize(
    ("one", "other"),
    [("type IIIB", "type IIIC"), ("type A", "type F"), ("medium chains", "long chains")],
)
def test_what_numbers_a_kind_is_no_typing_error(one, other) -> None:
    texts = [asked(f"What is the syndrome of {name}?") for name in (one, other)]
    assert near(*texts) == 0


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_copy_is_seen_through_and_both_share_a_band(copy) -> None:
    assert near(HONEST, copy) >= 0.8
    first, second = prints([HONEST, copy])
    assert set(first.bands) & set(second.bands)


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_record_of_the_same_template_is_another(other) -> None:
    assert near(HONEST, other) == 0


def test_the_verdict_is_the_same_from_both_sides() -> None:
    for other in [*COPIES.values(), *OTHERS.values()]:
        assert near(HONEST, other) == near(other, HONEST)


def test_short_plain_texts_of_one_template_are_others() -> None:
    door = fold({"text": "Door 3 of the house is painted in a warm grey."})
    assert not near(door, fold({"text": "Door 4 of the house is painted in a warm grey."}))
    assert not near(door, fold({"text": "Window 3 of the house is painted in a warm grey."}))
    assert near(door, fold({"text": "door 3 of the house is painted in a warm gray!"}))


def test_signs_of_scripts_without_spaces_are_words() -> None:
    assert words("東京は日本。") == ("東", "京", "は", "日", "本")


def test_vowel_signs_tell_words_apart() -> None:
    assert words("दिन दीन") == ("दिन", "दीन")
    assert words("ที่นี่") == ("ที่", "นี่")


def test_digits_of_all_scripts_count_by_their_value() -> None:
    assert words("۵ ٣ १ ৪ ๐ x๒") == ("5", "3", "1", "4", "0", "x2")


def test_no_letter_makes_a_word_a_number() -> None:
    assert not any(map(is_number, words("Завод работает без воды")))


def test_case_changes_no_cyrillic_word() -> None:
    text = "Где в городе можно найти чистую воду?"
    assert words(text.upper()) == words(text)


def test_texts_of_signs_alone_are_not_the_same() -> None:
    assert not near(fold({"text": "🙂🎉"}), fold({"text": "!!!"}))


def test_long_texts_without_a_word_in_common_are_told_apart_quickly(monkeypatch) -> None:
    """Each word against each of the other's would take hours at the longest text."""
    tried = Counter()

    def count(*args, **options):
        tried["pairs"] += 1
        return 0

    monkeypatch.setattr(similar.OSA, "normalized_similarity", count)
    monkeypatch.setattr(similar.OSA, "distance", lambda *args, **options: count() + 9)
    for key in ("text", "question"):
        one, two = (
            fold(
                {"text": text}
                if key == "text"
                else {"messages": [{"role": "user", "content": text}]}
            )
            for text in (
                " ".join(f"{sign}{chr(97 + n % 26)}{chr(97 + n // 26)}ab" for n in range(600))
                for sign in "pq"
            )
        )
        assert not near(one, two)
    assert tried["pairs"] < 1_000


def test_a_capital_that_looks_like_an_i_is_one() -> None:
    assert words("Іs ΑLРОRТ") == ("is", "alport")


def test_prints_are_the_same_on_every_machine() -> None:
    """They lie in a database: another order, another batch or another release must not change
    them."""
    (alone,) = prints([HONEST])
    batch = list(COPIES.values())
    random.Random(1).shuffle(batch)
    assert prints([*batch, HONEST])[-1] == alone
    assert len(alone.bands) == BANDS
    assert alone.bands[:2] == (988433982661974162, -3247889825470542116)
    assert cluster_hash("r", "h") == cluster_hash("r", "h")
    assert prints([]) == []


def test_a_text_without_letters_has_a_print() -> None:
    (empty,) = prints([fold({"text": "!!!"})])
    assert len(empty.bands) == BANDS
