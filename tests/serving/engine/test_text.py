"""Text comes in whole characters, adds up to the decoded answer, and shows no stop string."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from serving.engine.detokenize import StopStrings, Vocabulary, WindowStream, byte_alphabet
from tests.serving.engine.conftest import SPECIAL, build_tokenizer

TOKENIZER = build_tokenizer()
VOCABULARY = Vocabulary(TOKENIZER)


def streamed(vocabulary: Vocabulary, ids: list[int]) -> list[str]:
    stream = vocabulary.stream()
    return [*(stream.push(token) for token in ids), stream.flush()]


@given(st.lists(st.integers(0, TOKENIZER.get_vocab_size() - 1), max_size=60))
def test_the_pieces_of_any_tokens_add_up_to_the_decoded_text(ids):
    assert "".join(streamed(VOCABULARY, ids)) == TOKENIZER.decode(ids, skip_special_tokens=True)


@given(st.text(max_size=80))
def test_text_comes_back_without_a_broken_character(text):
    pieces = streamed(VOCABULARY, TOKENIZER.encode(text).ids)
    expected = text
    for special in SPECIAL:
        expected = expected.replace(special, "")
    if expected == text:
        assert "".join(pieces) == text
    assert "\ufffd" in text or not any("\ufffd" in piece for piece in pieces)


def test_an_emoji_of_four_tokens_appears_with_its_last():
    ids = [TOKENIZER.token_to_id(token) for token in _byte_tokens("🦊")]
    assert streamed(VOCABULARY, ids) == ["", "", "", "🦊", ""]


def test_half_a_character_at_the_end_becomes_one_replacement():
    ids = [TOKENIZER.token_to_id(token) for token in _byte_tokens("🦊")[:2]]
    assert streamed(VOCABULARY, ids) == ["", "", "\ufffd"]


def _byte_tokens(text: str) -> list[str]:
    stands_for = {byte: character for character, byte in byte_alphabet().items()}
    return [stands_for[byte] for byte in text.encode()]


def test_the_alphabet_has_each_byte_once_and_is_the_tokenizers_own():
    assert sorted(byte_alphabet().values()) == list(range(256))
    assert set(byte_alphabet()) == set(pre_tokenizers.ByteLevel.alphabet())


@given(st.lists(st.text(max_size=3) | st.integers(256, 299), max_size=20))
def test_a_vocabulary_with_byte_fallback_adds_up_too(parts):
    ids = [i for part in parts for i in (part.encode() if isinstance(part, str) else [part])]
    tokenizer = _fallback_tokenizer()
    stream = WindowStream(tokenizer)
    pieces = [*(stream.push(token) for token in ids), stream.flush()]
    assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True)


def _fallback_tokenizer() -> Tokenizer:
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)}
    for place in range(44):
        vocabulary[chr(0x61 + place % 26) + "▁" * (place // 26 + 1)] = 256 + place
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


@given(
    st.lists(st.text(alphabet="abc", max_size=4), max_size=12),
    st.lists(st.text(alphabet="abc", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_a_stop_string_cuts_where_it_would_cut_the_whole_text(pieces, stops):
    holder = StopStrings(stops)
    shown, stopped = "", False
    for piece in pieces:
        text, stopped = holder.push(piece)
        shown += text
        if stopped:
            break
    shown += "" if stopped else holder.flush()
    seen = ""
    for piece in pieces:
        seen += piece
        places = [seen.find(stop) for stop in stops if stop in seen]
        if places:
            assert stopped
            assert shown == seen[: min(places)]
            return
    assert not stopped
    assert shown == seen


def test_text_that_cannot_become_a_stop_string_is_shown_at_once():
    holder = StopStrings(["END"])
    assert holder.push("the E") == ("the ", False)
    assert holder.push("gg") == ("Egg", False)
    assert holder.push(" EN") == (" ", False)
    assert holder.push("D of it") == ("", True)
