"""The check before a run names rows, and the split holds still."""

from hypothesis import given
from hypothesis import strategies as st

from modelfactory.training.data import Problem, Row, examine, split
from modelfactory.training.prompts import load_tokenizer
from tests.modelfactory.training.conftest import STARTER, payload


def problems(*payloads, cutoff=64):
    rows = [Row(f"r{n}", n, p) for n, p in enumerate(payloads, 1)]
    items, findings = examine(rows, load_tokenizer(STARTER), cutoff=cutoff)
    return [i.record for i in items], [(f.number, f.problem) for f in findings]


def conversation(*turns):
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def test_it_finds_what_cannot_be_learnt_and_says_which_row():
    kept, found = problems(
        payload(1),
        {"text": ""},
        {"messages": []},
        conversation(("user", "Why?"), ("assistant", "  ")),
        conversation(("user", "Why?")),
        conversation(("judge", "Why?"), ("assistant", "So.")),
        {"other": 1},
    )
    assert kept == ["r1"]
    assert found == [
        (2, Problem.EMPTY),
        (3, Problem.EMPTY),
        (4, Problem.EMPTY),
        (5, Problem.NOTHING_TO_LEARN),
        (6, Problem.TEMPLATE),
        (7, Problem.EMPTY),
    ]


def test_it_cuts_what_is_too_long_but_keeps_it():
    kept, found = problems(conversation(("user", "Why?"), ("assistant", "because " * 200)))
    assert kept == ["r1"]
    assert found == [(1, Problem.TOO_LONG)]


def test_it_leaves_out_a_record_whose_question_fills_the_cutoff():
    kept, found = problems(conversation(("user", "why " * 200), ("assistant", "So.")))
    assert kept == []
    assert found == [(1, Problem.NOTHING_TO_LEARN)]


ids = st.lists(st.uuids().map(str), max_size=60)
fractions = st.floats(0.02, 0.5)


@given(ids, fractions, st.integers(0, 5))
def test_the_split_is_whole_and_on_one_side_each(records, fraction, seed):
    training, held_out = split(records, fraction=fraction, seed=seed)
    assert not set(training) & set(held_out)
    assert set(training) | set(held_out) == set(records)
    if len(set(records)) > 1:
        assert training
        assert held_out


@given(ids, fractions, st.randoms())
def test_the_split_does_not_depend_on_the_order(records, fraction, random):
    first = split(records, fraction=fraction, seed=3)
    random.shuffle(records)
    second = split(records, fraction=fraction, seed=3)
    assert [set(side) for side in first] == [set(side) for side in second]


def test_a_record_that_is_repeated_stays_on_one_side():
    training, held_out = split(["a", "b", "a", "c", "b"], fraction=0.5, seed=0)
    assert sorted(training + held_out) == ["a", "b", "c"]
