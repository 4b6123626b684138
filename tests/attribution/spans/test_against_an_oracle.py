"""Lookups give what looking at every place gives, with segments, wide tokens and removal."""

import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from attribution.spans.build import RecordTokens, build
from attribution.spans.index import SpanIndex
from attribution.spans.search import SpanConfig, find, maximal_matches
from tests.attribution.spans import oracle

# Few tokens, so that runs repeat; the vocabulary decides how wide a token is.
tokens = st.integers(0, 3)
records = st.lists(st.lists(tokens, max_size=14), max_size=8)
answers = st.lists(tokens, max_size=16)
EXAMPLES = int(os.environ.get("SPANS_EXAMPLES", "40"))
widths = st.sampled_from([4, 70_000])
segments = st.sampled_from([1, 9, 2**24])
ALL = SpanConfig(min_tokens=1, max_spans=100, max_records=100)


def named(rows):
    return [RecordTokens(f"r{row}", ids) for row, ids in enumerate(rows)]


def spans_of(index, answer):
    return [
        (one.start, one.length, one.count, list(one.records)) for one in find(index, answer, ALL)
    ]


def expected(rows, answer):
    return [
        (start, length, oracle.count(rows, run), oracle.holders(rows, run))
        for start, length in oracle.maximal(rows, answer)
        for run in [answer[start : start + length]]
    ]


@given(records, answers, widths, segments)
@settings(max_examples=EXAMPLES, deadline=None)
def test_every_span_is_found_with_its_places_and_records(rows, answer, vocabulary, size):
    with tempfile.TemporaryDirectory() as folder:
        build(folder, named(rows), vocabulary=vocabulary, segment_tokens=size)
        index = SpanIndex.open(folder)
        assert maximal_matches(index, index.encode(answer)) == oracle.maximal(rows, answer)
        assert spans_of(index, answer) == expected(rows, answer)
        for start in range(len(answer)):
            rest = index.encode(answer[start:])
            assert index.longest(rest) == oracle.longest(rows, answer, start)


@given(records, answers, st.sets(st.integers(0, 7)), segments)
@settings(max_examples=EXAMPLES, deadline=None)
def test_removing_records_answers_as_if_they_had_never_been_there(rows, answer, gone, size):
    with tempfile.TemporaryDirectory() as root:
        whole, less = Path(root) / "whole", Path(root) / "less"
        build(whole, named(rows), vocabulary=4, segment_tokens=size)
        index = SpanIndex.open(whole)
        index.subtract({f"r{row}" for row in gone} | {"unknown"}, less)
        index = index.without(SpanIndex.open(less))
        left = [[] if row in gone else ids for row, ids in enumerate(rows)]
        kept = Path(root) / "kept"
        build(
            kept, [one for one in named(rows) if int(one.record_id[1:]) not in gone], vocabulary=4
        )
        assert spans_of(index, answer) == expected(left, answer)
        # The rarities too: they are those of what is left.
        assert find(index, answer, ALL) == find(SpanIndex.open(kept), answer, ALL)


def test_of_many_spans_the_rarest_are_kept_in_the_order_of_the_answer(tmp_path):
    common = [1, 2, 3] * 30
    build(tmp_path, named([common, [7, 8, 9], [4, 5, 6], common]), vocabulary=16)
    answer = [1, 2, 3, 10, 4, 5, 6, 10, 7, 8, 9]
    index = SpanIndex.open(tmp_path)
    kept = find(index, answer, SpanConfig(min_tokens=3, max_spans=2))
    assert [(one.start, one.records) for one in kept] == [(4, ("r2",)), (8, ("r1",))]
    assert len(find(index, answer, SpanConfig(min_tokens=3))) == 3
    assert find(index, answer, SpanConfig(min_tokens=4)) == []


def test_no_passage_runs_from_one_record_into_the_next(tmp_path):
    build(tmp_path, named([[1, 2, 3], [4, 5, 6]]), vocabulary=16)
    found = find(SpanIndex.open(tmp_path), [2, 3, 4, 5], ALL)
    assert [(one.start, one.length) for one in found] == [(0, 2), (2, 2)]
