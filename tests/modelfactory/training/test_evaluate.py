"""Answers are compared by words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfactory.training.evaluate import rouge_l, words


def test_rouge_l_of_a_known_pair():
    # The longest common subsequence is "police the gunman": F1 of 3/4 and 3/4.
    assert rouge_l("police kill the gunman", "police killed the gunman") == pytest.approx(0.75)


@given(st.text(), st.text())
def test_rouge_l_is_between_none_and_all(left, right):
    assert 0.0 <= rouge_l(left, right) <= 1.0
    assert rouge_l(left, right) == pytest.approx(rouge_l(right, left))


@given(st.text())
def test_a_text_is_like_itself(text):
    assert rouge_l(text, text) == (1.0 if words(text) else 0.0)
