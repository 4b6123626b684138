"""Scores and shares are exact: equal to Python's own integers, whatever the sizes."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.influence import native
from attribution.influence.quantise import (
    NORM_MAX,
    VECTOR_MAX,
    Query,
    clip_norms,
    quantise_query,
    quantise_vectors,
    quantise_weights,
    sketch,
)
from attribution.influence.recompute import differences
from attribution.influence.rotation import signs, turn
from attribution.influence.scores import group_scores, portable_scores, record_scores
from attribution.influence.shares import WHOLE, portion, shares

# The sum of 10**8 records whose every coordinate is as large as can be.
LARGEST_SUM = 10**8 * VECTOR_MAX


@given(st.data())
def test_group_scores_equal_python_integers(data):
    width = data.draw(st.integers(1, 12))
    sums = data.draw(
        st.lists(
            st.lists(st.integers(-(2**63), 2**63 - 1), min_size=width, max_size=width),
            min_size=1,
            max_size=4,
        )
    )
    codes = data.draw(
        st.lists(st.integers(-VECTOR_MAX, VECTOR_MAX), min_size=width, max_size=width)
    )
    found = group_scores(
        np.array(sums, dtype=np.int64), Query(np.array(codes, dtype=np.int16), 1.0, 16)
    )
    assert found == [sum(a * b for a, b in zip(row, codes, strict=True)) for row in sums]


def test_the_largest_sums_do_not_overflow():
    width = 65_536
    sums = np.full((1, width), -LARGEST_SUM, dtype=np.int64)
    query = Query(np.full(width, VECTOR_MAX, dtype=np.int16), 1.0, 16)
    assert group_scores(sums, query) == [-LARGEST_SUM * VECTOR_MAX * width]


@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_record_scores_equal_python_integers(width, records, seed):
    draw = np.random.default_rng(seed)
    codes = np.packbits(draw.integers(0, 2, (records, width)), axis=1)
    norms = draw.integers(0, NORM_MAX + 1, records).astype(np.uint16)
    weights = draw.integers(1, 256, width).astype(np.uint8)
    query = Query(draw.integers(-127, 128, width + 3).astype(np.int16), 1.0, 8)
    bits = np.unpackbits(codes, axis=1)[:, :width]
    expected = [
        int(norms[row])
        * sum(
            (1 if bits[row, k] else -1) * int(query.codes[k]) * int(weights[k])
            for k in range(width)
        )
        for row in range(records)
    ]
    assert record_scores(codes, norms, weights, query).tolist() == expected


@pytest.mark.skipif(native.kernel() is None, reason="no C compiler")
@given(st.integers(1, 300), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_the_native_kernel_gives_the_portable_integers(rows, width, seed):
    draw = np.random.default_rng(seed)
    codes = draw.integers(0, 256, (rows, width), dtype=np.uint8)
    largest = VECTOR_MAX * 255
    products = draw.integers(-largest, largest + 1, 8 * width).astype(np.int32)
    found = native.kernel()(codes, products)
    assert np.array_equal(found, portable_scores(codes, products))
    bits = np.unpackbits(codes[-1]).astype(np.int64) * 2 - 1
    assert found[-1] == int(bits @ products.astype(np.int64))


@pytest.mark.parametrize("rows", [1, 200])  # the portable loop, and the native one if there is one
def test_the_largest_sketch_score_does_not_overflow(rows):
    width = 32_768
    query = Query(np.full(width, VECTOR_MAX, dtype=np.int16), 1.0, 16)
    found = record_scores(
        np.full((rows, width // 8), 255, dtype=np.uint8),
        np.full(rows, NORM_MAX, dtype=np.uint16),
        np.full(width, 255, dtype=np.uint8),
        query,
    )
    assert found.tolist() == [NORM_MAX * VECTOR_MAX * 255 * width] * rows


def test_a_sketch_with_its_norm_takes_4098_bytes():
    vectors = np.random.default_rng(0).normal(size=(2, 32_768)).astype(np.float32)
    codes, norms = sketch(vectors, np.full(32_768, 255, dtype=np.uint8), 1000.0)
    assert codes[0].nbytes + norms[0].nbytes == 4098


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6))
def test_clipped_vectors_never_leave_their_integers(seed, clip):
    draw = np.random.default_rng(seed)
    vectors = (draw.normal(size=(5, 9)) * 10.0 ** draw.integers(-8, 9, (5, 1))).astype(np.float32)
    clipped = vectors * clip_norms(vectors, clip)[:, None]
    assert np.all(np.linalg.norm(clipped, axis=1) <= clip * 1.0001)
    whole = quantise_vectors(clipped, clip)
    assert np.allclose(whole * (clip / VECTOR_MAX), clipped, atol=clip / VECTOR_MAX)


def test_a_query_survives_its_bytes():
    vector = np.array([0.5, -1.0, 0.25, 0.0], dtype=np.float32)
    for bits in (8, 16):
        query = quantise_query(vector, bits)
        again = Query.from_bytes(query.to_bytes(), step=query.step, bits=bits)
        assert again.codes.tolist() == query.codes.tolist()
        assert np.allclose(query.codes * query.step, vector, atol=query.step)


def test_weights_are_never_zero():
    assert quantise_weights(np.array([1.0, 0.5, 0.0])).tolist() == [15, 8, 1]


names = st.text("abcdef", min_size=1, max_size=5)


@given(st.dictionaries(names, st.integers(-(10**30), 10**30)))
def test_shares_add_up_and_only_help_earns(groups):
    found = shares(groups)
    helped = {name for name, value in groups.items() if value > 0}
    assert set(found) == helped
    assert sum(found.values()) == (WHOLE if helped else 0)
    for name, part in found.items():
        exact = WHOLE * groups[name] / sum(groups[other] for other in helped)
        assert abs(part - exact) <= 1 + 1e-6 * exact


def test_shares_do_not_depend_on_the_order():
    groups = {"c": 1, "a": 1, "b": 1}
    assert shares(groups) == {"a": 333333334, "b": 333333333, "c": 333333333}
    assert shares(dict(sorted(groups.items()))) == shares(groups)


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="0 or more"):
        portion({"a": -1})


def test_differences_are_sentences():
    assert differences({"a": 1}, {"a": 1}, "share") == []
    assert differences({"a": 1}, {"a": 2, "b": 0}, "share") == [
        "share of a: 1 is claimed, 2 is computed."
    ]


def test_recomputing_needs_no_torch():
    code = (
        "import attribution.influence.recompute, attribution.influence.shares, sys;"
        "sys.exit('torch' in sys.modules or 'django' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_record_score_is_exact(sign):
    """The most that a record can score: every bit right, the longest norm, all weights at their
    largest, and a 16-bit answer whose turned coordinates are all as large (a bent sequence)."""
    width, block, rows = 65_536, 256, 64
    bits = np.unpackbits(np.arange(block, dtype=np.uint8)[:, None], axis=1)
    bent = 1 - 2 * ((bits[:, ::2] & bits[:, 1::2]).sum(axis=1, dtype=np.int32) % 2)
    codes16 = sign * signs(width) * np.tile(bent, width // block) * VECTOR_MAX
    query = Query(codes16.astype(np.int16), 1.0, 16)
    turned = turn(query.codes.astype(np.int64), block)
    assert (np.abs(turned) == 16 * VECTOR_MAX).all()
    codes = np.packbits(turned >= 0)[None, :].repeat(rows, axis=0)
    weights = np.full(width, 255, dtype=np.uint8)
    norms = np.full(rows, NORM_MAX, dtype=np.uint16)
    exact = NORM_MAX * 255 * 16 * VECTOR_MAX * width
    assert exact < 2**63
    assert record_scores(codes, norms, weights, query, block).tolist() == [exact] * rows
    assert record_scores(codes[:1], norms[:1], weights, query, block).tolist() == [exact]
