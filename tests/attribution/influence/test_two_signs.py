"""The strongest coordinates of a sketch have two signs where signs are left."""

import hashlib
import itertools
from base64 import b64encode
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.influence import native, trellis
from attribution.influence.audit import audit
from attribution.influence.build import build_with
from attribution.influence.config import InfluenceConfig
from attribution.influence.index import Index
from attribution.influence.quantise import Query, quantise_query, sketch
from attribution.influence.scorer import Scorer
from attribution.influence.scores import record_scores
from attribution.translog import recompute
from tests.attribution.influence.conftest import tiny_examples


@given(st.integers(1, 700), st.integers(0, 700))
def test_each_coordinate_has_one_sign_and_the_first_have_both_of_a_step(width, twice):
    twice = min(twice, width)
    found = trellis.places(width, 2, twice)
    assert found.shape == (2, 8 * trellis.code_bytes(width + twice, 2))
    named, counts = np.unique(found[found >= 0], return_counts=True)
    assert named.tolist() == list(range(width))
    assert counts.tolist() == [2] * twice + [1] * (width - twice)
    both = found[:, (found[0] == found[1]) & (found[0] >= 0)]
    assert both[0].tolist() == list(range(twice))
    offline = recompute._laid_out(list(range(1, width + 1)), found.shape[1], 2, twice)
    assert offline == (found.reshape(-1) + 1).tolist()


def test_no_other_bits_come_nearer_where_signs_that_agree_have_a_price():
    steps = 10
    draw = np.random.default_rng(0)
    metrics = np.zeros((3, 2, trellis.SEGMENT), dtype=np.int32)
    metrics[:, :, :steps] = draw.integers(-99, 100, (3, 2, steps))
    costs = np.zeros((3, trellis.SEGMENT), dtype=np.int32)
    costs[:, :steps] = draw.integers(0, 99, (3, steps))
    found = np.packbits(trellis.paths(metrics, costs), axis=1)
    every = np.zeros((2**steps, trellis.SEGMENT), dtype=np.uint8)
    every[:, :steps] = list(itertools.product((0, 1), repeat=steps))

    def worth(codes):  # (codes, segments)
        told = np.unpackbits(trellis.spread(codes, 2), axis=1).reshape(len(codes), 2, -1)
        signs = told.astype(np.int64) * 2 - 1
        gained = np.einsum("cps,mps->cm", signs, metrics)
        return gained - (signs[:, 0] * signs[:, 1]) @ costs.T

    assert np.diag(worth(found)).tolist() == worth(np.packbits(every, axis=1)).max(axis=0).tolist()


@pytest.mark.skipif(native.kernel() is None, reason="no C compiler")
@pytest.mark.parametrize("rate", [2, 3])
def test_the_native_search_pays_the_same_prices(rate):
    draw = np.random.default_rng(rate)
    for most in (2, trellis.METRIC_MAX):  # many ties, and none
        metrics = draw.integers(-most, most + 1, (4, rate, trellis.SEGMENT)).astype(np.int32)
        costs = draw.integers(0, 2 * most + 1, (4, trellis.SEGMENT)).astype(np.int32)
        assert np.array_equal(native.paths()(metrics, costs), trellis.paths(metrics, costs))


def test_two_signs_for_the_strongest_carry_more_than_one_for_many_that_are_weak():
    draw = np.random.default_rng(0)
    sizes = np.linspace(1.5, 0.1, 4096)
    rows, asked = ((draw.normal(size=(40, 4096)) * sizes).astype(np.float32) for _ in range(2))
    queries = [quantise_query(row, 16) for row in asked]
    clip = float(np.linalg.norm(rows, axis=1).max())

    def likeness(width, twice):
        weights = np.clip(np.rint(sizes[:width] * 10), 1, 15).astype(np.uint8)
        codes, norms = sketch(rows[:, :width], weights, clip, 1, 2, twice)
        assert codes.shape[1] == 256
        found = [record_scores(codes, norms, weights, query, 1, 2, twice) for query in queries]
        return float(np.mean([np.corrcoef(one, rows @ q.codes)[0, 1]
                              for one, q in zip(found, queries, strict=True)]))  # fmt: skip

    assert likeness(3072, 1024) > likeness(4096, 0)


def test_an_index_with_two_signs_is_read_audited_and_verified_alike(model, tmp_path):
    config = InfluenceConfig(fit_min=12, batch_tokens=48)
    dimension = model.whole_dimension
    config = replace(config, sketch_width=int(dimension * 1.2), sketch_part=0.5)
    examples = tiny_examples()
    build_with(model, config, examples, tmp_path / "index")
    index = Index.open(tmp_path / "index")
    assert len(index.weights) == 3 * config.sketch_width // 4
    assert index.sketch_twice == config.sketch_width - len(index.weights) > 0
    scorer = Scorer.of(index, model)
    query = scorer.query(examples[0].input_ids, examples[0].loss_mask)
    sent = {
        "private": {"sketch": {"bits": query.bits}},
        "sketch_base64": b64encode(query.to_bytes()).decode(),
    }
    offline = recompute.record_scores(recompute.Files(index.folder), recompute.Answer(sent))
    assert offline == index.record_scores(query).tolist()
    by_id = {example.record_id: example for example in examples}
    audited = audit(scorer, InfluenceConfig(batch_tokens=48), by_id, list(by_id), "group-1")
    assert set(audited.records.values()) == {"exact"}


def test_version_5_gives_the_same_bytes_for_ever(monkeypatch):
    steps = np.arange(5 * 700).reshape(5, 700)
    rows = ((steps * 7919 % 2003 - 1001) / 1024).astype(np.float32)
    weights = (np.arange(700) * 37 % 15 + 1).astype(np.uint8)
    query = Query((np.arange(700) * 53 % 255 - 127).astype(np.int16), 1.0, 8)
    for found_native in (native.paths(), None):
        monkeypatch.setattr(native, "paths", lambda found=found_native: found)
        codes, norms = sketch(rows, weights, 32.0, 256, 2, 300)
        found = record_scores(codes, norms, weights, query, 256, 2, 300)
        made = hashlib.sha256(codes.tobytes() + norms.tobytes() + found.tobytes()).hexdigest()
        assert made == "ead1d7ecb07889a82870b73f113608fbbc5457d3cf92ee5d22cb131a861e1978"


def test_how_many_have_two_signs():
    config = InfluenceConfig()
    assert (config.kept(74_752, 65_536), config.twice(52_326)) == (52_326, 13_210)
    assert (config.kept(299_008, 65_536), config.twice(65_536)) == (65_536, 0)
    assert (config.kept(40_000, 40_000), config.twice(40_000)) == (40_000, 25_536)
    assert (config.kept(30_000, 30_000), config.twice(30_000)) == (30_000, 0)  # a bit for each
    assert replace(config, sketch_part=0.0).kept(74_752, 65_536) == 65_536
    assert replace(config, sketch_part=0.0).twice(40_000) == 0


def test_an_index_of_version_4_has_one_sign_for_each_coordinate(model, tmp_path):
    config = InfluenceConfig(fit_min=12, sketch_width=512, batch_tokens=48)
    build_with(model, config, tiny_examples(), tmp_path / "index")
    index = Index.open(tmp_path / "index")
    del index.manifest.header["parameters"]["sketch_part"]
    assert index.sketch_twice == 0
    assert index.sketched_by["sketch_part"] == 0
