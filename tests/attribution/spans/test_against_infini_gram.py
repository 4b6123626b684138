"""The same tokens give the same matches as PyPI's infini-gram, with records removed too."""

import random

import numpy as np
import pytest

from attribution.spans.build import RecordTokens, build
from attribution.spans.index import SpanIndex
from attribution.spans.search import SpanConfig, find

pytest.importorskip("infini_gram", reason="pip install '.[bench]'")

GONE = set(range(0, 60))
ALL = SpanConfig(min_tokens=3, max_spans=1000, max_records=1000)


def joined(runs):
    return [token for run in runs for token in run]


@pytest.fixture(scope="module")
def documents():
    chance = random.Random(5)
    phrases = [[chance.randrange(3_000) for _ in range(chance.randrange(2, 9))] for _ in range(80)]
    return [joined(chance.choices(phrases, k=chance.randrange(3, 25))) for _ in range(300)]


@pytest.fixture(scope="module")
def both(documents, tmp_path_factory):
    from bench.spans import peer

    folder = tmp_path_factory.mktemp("peers")
    rows = [RecordTokens(f"{row}", ids) for row, ids in enumerate(documents)]
    build(folder / "ours", rows, vocabulary=4096, segment_tokens=4_000)
    ours = SpanIndex.open(folder / "ours")
    ours.subtract([str(row) for row in GONE], folder / "less")
    peer.build(folder / "theirs", documents)
    peer.build(folder / "gone", [documents[row] for row in sorted(GONE)])
    whole, gone = peer.engine(folder / "theirs"), peer.engine(folder / "gone")
    return {
        "whole": (ours, whole, lambda run: _counted(whole, run)),
        "less": (
            ours.without(SpanIndex.open(folder / "less")),
            peer.engine(folder / "theirs", folder / "gone"),
            # Its engine with a subtracting index subtracts in `attribute` alone.
            lambda run: _counted(whole, run) - _counted(gone, run),
        ),
    }


def _counted(engine, run):
    return engine.count(input_ids=run)["count"] if run else 0


def answers(documents):
    chance = random.Random(6)
    for _ in range(40):
        cuts = [chance.choice(documents) for _ in range(4)]
        yield [4095, *joined(cut[chance.randrange(20) :][: chance.randrange(25)] for cut in cuts)]


@pytest.mark.parametrize("which", ["whole", "less"])
def test_the_longest_match_at_every_token_is_the_same(both, documents, which):
    """By its `count`: its `creativity` (2.6.0) now and then misses a match that it counts."""
    ours, _, count = both[which]
    for ids in answers(documents):
        coded = ours.encode(ids)
        for start in range(len(ids)):
            length = ours.longest(coded[2 * start :])
            run = ids[start : start + length]
            assert count(run) == (ours.count(ours.encode(run)) if run else 0)
            assert start + length == len(ids) or count(ids[start : start + length + 1]) == 0


@pytest.mark.parametrize("which", ["whole", "less"])
def test_spans_counts_and_documents_are_the_same(both, documents, which):
    ours, theirs, count = both[which]
    begins = np.cumsum([0] + [2 * len(ids) + 2 for ids in documents])
    seen = 0
    for ids in answers(documents):
        stated = theirs.attribute(
            input_ids=ids, delim_ids=[], min_len=3, max_cnt=10_000, enforce_bow=False
        )["spans"]
        found = find(ours, ids, ALL)
        assert [(one.start, one.end) for one in found] == [(one["l"], one["r"]) for one in stated]
        assert [one.count for one in found] == [count(ids[one.start : one.end]) for one in found]
        for mine, other in zip(found, stated, strict=True):
            rows = {
                int(np.searchsorted(begins, doc["ptr"], side="right")) - 1 for doc in other["docs"]
            }
            rows -= GONE if which == "less" else set()
            assert set(map(int, mine.records)) == rows
        seen += len(found)
    assert seen > 100
