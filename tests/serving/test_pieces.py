"""Tokens that came together are shown together, and nothing behind a gap."""

from serving.streams import Piece, _pieces


def entry(at: int, text: str = "", logprob: str = ""):
    fields = {b"text": text.encode(), b"at": str(at).encode()}
    return "1-1", fields | ({b"logprob": logprob.encode()} if logprob else {})


def test_what_came_together_is_one_piece():
    entries = [entry(3, "The "), entry(7, "größ"), entry(11, "er"), ("1-2", {b"end": b"1"})]
    assert _pieces(entries, 3) == [Piece("The größer")]


def test_a_token_with_probabilities_stays_its_own():
    entries = [entry(0, "a"), entry(1, "b", "[1]"), entry(2, "c", "[2]"), entry(3, "d")]
    assert _pieces(entries, 0) == [Piece("a"), Piece("b", ([1],)), Piece("c", ([2],)), Piece("d")]


def test_behind_a_gap_nothing_is_taken():
    assert _pieces([entry(0, "a"), entry(2, "c"), entry(3, "d")], 0) == [Piece("a")]
    assert _pieces([entry(5, "f")], 0) == []
    assert _pieces([], 0) == []
