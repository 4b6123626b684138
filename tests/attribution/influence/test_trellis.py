"""Bits that tell more coordinates than they are: the best ones, the same with and without C."""

import hashlib
import itertools
from base64 import b64encode

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.influence import native, trellis
from attribution.influence.audit import audit
from attribution.influence.build import build_with
from attribution.influence.config import InfluenceConfig
from attribution.influence.index import Index
from attribution.influence.quantise import Query, quantise_weights, sketch
from attribution.influence.scorer import Scorer
from attribution.influence.scores import portable_scores, record_scores
from attribution.translog import recompute
from tests.attribution.influence.conftest import tiny_examples

needs_compiler = pytest.mark.skipif(native.kernel() is None, reason="no C compiler")


@pytest.mark.parametrize("rate", [2, 3])
def test_no_other_bits_come_nearer(rate):
    steps = 10
    metrics = np.zeros((3, rate, trellis.SEGMENT), dtype=np.int32)
    metrics[:, :, :steps] = np.random.default_rng(0).integers(-99, 100, (3, rate, steps))
    found = np.packbits(trellis.paths(metrics), axis=1)
    every = np.zeros((2**steps, trellis.SEGMENT), dtype=np.uint8)
    every[:, :steps] = list(itertools.product((0, 1), repeat=steps))
    flat = metrics.reshape(3, -1)
    assert np.array_equal(
        (signs(found, rate) * flat).sum(axis=1),
        (signs(np.packbits(every, axis=1), rate) @ flat.T).max(axis=0),
    )


@given(st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_a_sign_is_the_parity_of_what_its_generator_adds(width, seed):
    codes = np.random.default_rng(seed).integers(0, 256, (1, width), dtype=np.uint8)
    bits = np.unpackbits(codes).tolist()
    for rate in (1, 2, 3):
        told = np.unpackbits(trellis.spread(codes, rate)).tolist()
        for part, generator in enumerate(trellis.GENERATORS[rate]):
            for step in {0, len(bits) // 2, len(bits) - 1}:
                first = step - step % trellis.SEGMENT
                register = [bits[step - ago] if step - ago >= first else 0 for ago in range(9)]
                wanted = sum(bit for ago, bit in enumerate(register) if generator & (0o400 >> ago))
                assert told[part * len(bits) + step] == wanted % 2


@needs_compiler
@pytest.mark.parametrize("rate", [2, 3])
def test_the_native_search_finds_the_same_bits(rate):
    draw = np.random.default_rng(rate)
    few = draw.integers(-2, 3, (5, rate, trellis.SEGMENT))  # many ties
    wide = draw.integers(-trellis.METRIC_MAX, trellis.METRIC_MAX + 1, few.shape)
    metrics = np.concatenate([few, wide, np.zeros_like(few)]).astype(np.int32)
    assert np.array_equal(native.paths()(metrics), trellis.paths(metrics))


@needs_compiler
@given(st.integers(1, 300), st.sampled_from([1, 2, 3]), st.integers(0, 2**32 - 1))
def test_the_native_kernel_spreads_bits_alike(width, rate, seed):
    draw = np.random.default_rng(seed)
    codes = draw.integers(0, 256, (3, width), dtype=np.uint8)
    products = draw.integers(-(2**30), 2**30, 8 * rate * width).astype(np.int32)
    found = native.kernel()(codes, products, rate)
    assert np.array_equal(found, portable_scores(codes, products, rate))
    told = np.unpackbits(trellis.spread(codes, rate), axis=1).astype(np.int64) * 2 - 1
    assert found[0] == int(told[0] @ products.astype(np.int64))


@pytest.mark.parametrize(("rate", "least"), [(1, 0.63), (2, 0.46), (3, 0.34)])
def test_signs_carry_as_much_of_a_vector_as_is_said(rate, least):
    rows = np.random.default_rng(0).normal(size=(4, 8192 * rate)).astype(np.float32)
    told = signs(trellis.choose(rows, rate, native.paths()), rate)
    carried = (rows * told).sum(axis=1) ** 2 / rows.shape[1] / np.square(rows).sum(axis=1)
    assert carried.min() > least


def test_a_sketch_of_65536_coordinates_with_its_norm_takes_4098_bytes():
    vectors = np.random.default_rng(0).normal(size=(2, 65_536)).astype(np.float32)
    codes, norms = sketch(vectors, np.full(65_536, 15, dtype=np.uint8), 1000.0, 256, 2)
    assert codes[0].nbytes + norms[0].nbytes == 4098


def test_scores_follow_the_vectors_more_closely_than_signs_of_half_of_them():
    draw = np.random.default_rng(5)
    rows = draw.normal(size=(80, 4096)).astype(np.float32)
    asked = [
        Query(codes, 1.0, 8) for codes in draw.integers(-127, 128, (30, 4096)).astype(np.int16)
    ]
    clip = float(np.linalg.norm(rows, axis=1).max())

    def likeness(width: int, rate: int) -> float:
        weights = quantise_weights(np.ones(width))
        codes, norms = sketch(rows[:, :width], weights, clip, 256, rate)
        assert codes.shape[1] == 256
        found = [record_scores(codes, norms, weights, query, 256, rate) for query in asked]
        true = [rows @ query.codes for query in asked]
        return float(np.mean([np.corrcoef(*pair)[0, 1] for pair in zip(found, true, strict=True)]))

    assert likeness(4096, 2) > likeness(2048, 1) + 0.08


def test_an_index_of_few_bytes_scores_and_is_made_again_alike(model, tmp_path):
    config = InfluenceConfig(fit_min=12, sketch_width=512, batch_tokens=48)
    examples = tiny_examples()
    build_with(model, config, examples, tmp_path / "index")
    index = Index.open(tmp_path / "index")
    assert (index.sketch_rate, index.codes.shape[1]) == (2, 32)
    scorer = Scorer.of(index, model)
    by_id = {example.record_id: example for example in examples}
    found = [scorer.score(one.input_ids, one.loss_mask) for one in examples]
    first = [one.top_records(3) for one in found]
    right = [one.record_id in dict(top) for one, top in zip(examples, first, strict=True)]
    assert sum(right) > len(right) * 0.8
    audited = audit(scorer, InfluenceConfig(batch_tokens=48), by_id, list(by_id), "group-1")
    assert set(audited.records.values()) == {"exact"}


@pytest.mark.parametrize(
    ("rate", "digest"),
    [
        (1, "ef18539eb75256e622af74a6c594a68f22359c6d58b1f9903c848299843ff441"),
        (2, "23138881096263baba360248d6699230302bb4d698f85abc33183a5fe9cd8507"),
    ],
)
def test_a_method_that_was_published_gives_the_same_bytes_for_ever(rate, digest, monkeypatch):
    """Of one coordinate a bit, what version 3 gave; of two, version 4; with the compiler or not."""
    steps = np.arange(5 * 700).reshape(5, 700)
    rows = ((steps * 7919 % 2003 - 1001) / 1024).astype(np.float32)
    weights = (np.arange(700) * 37 % 255 + 1).astype(np.uint8)
    query = Query((np.arange(700) * 53 % 255 - 127).astype(np.int16), 1.0, 8)
    for found_native in (native.paths(), None):
        monkeypatch.setattr(native, "paths", lambda found=found_native: found)
        codes, norms = sketch(rows, weights, 32.0, 256, rate)
        found = record_scores(codes, norms, weights, query, 256, rate)
        made = hashlib.sha256(codes.tobytes() + norms.tobytes() + found.tobytes())
        assert made.hexdigest() == digest


def test_the_offline_verifier_reads_the_bits_alike(model, tmp_path):
    config = InfluenceConfig(fit_min=12, sketch_width=512, batch_tokens=48)
    build_with(model, config, tiny_examples(8), tmp_path / "index")
    index = Index.open(tmp_path / "index")
    assert index.sketch_rate == 2
    query = Scorer.of(index, model).query([3, 5, 7, 11, 13], [0, 0, 1, 1, 1])
    offline = recompute.Answer(
        {
            "private": {"sketch": {"bits": query.bits}},
            "sketch_base64": b64encode(query.to_bytes()).decode(),
        }
    )
    found = recompute.record_scores(recompute.Files(index.folder), offline)
    assert found == index.record_scores(query).tolist()
    codes = np.random.default_rng(0).integers(0, 256, (1, 300), dtype=np.uint8)
    for rate in (1, 2, 3):
        told = trellis.spread(codes, rate).tobytes()
        assert recompute._spread(codes.tobytes(), rate) == told


def test_an_index_before_version_4_reads_a_bit_as_one_coordinate(model, tmp_path):
    config = InfluenceConfig(fit_min=12, sketch_width=512, sketch_rate=1, batch_tokens=48)
    build_with(model, config, tiny_examples(), tmp_path / "index")
    index = Index.open(tmp_path / "index")
    del index.manifest.header["parameters"]["sketch_rate"]
    assert (index.sketch_rate, index.codes.shape[1]) == (1, 64)
    assert index.sketched_by["sketch_rate"] == 1


def test_where_the_bytes_suffice_each_coordinate_has_a_bit():
    assert trellis.rate_of(32_768, 65_536, 2) == 1
    assert trellis.rate_of(32_769, 65_536, 2) == 2
    assert trellis.code_bytes(65_536, 2) == 4096
    assert trellis.code_bytes(17, 2) == 2


def signs(codes, rate):
    return np.unpackbits(trellis.spread(codes, rate), axis=1).astype(np.int64) * 2 - 1
