"""Turned coordinates: the same dot products, exactly for integers, the same signs for everyone."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.influence.quantise import VECTOR_MAX, Query, quantise_weights, sketch
from attribution.influence.rotation import signs, turn, usual_sizes
from attribution.influence.scores import portable_scores, record_scores


@given(st.integers(1, 600), st.sampled_from([1, 4, 16, 64, 256]), st.integers(0, 2**32 - 1))
def test_a_turned_dot_product_is_the_old_one_times_the_block(width, block, seed):
    draw = np.random.default_rng(seed)
    first, second = draw.integers(-VECTOR_MAX, VECTOR_MAX + 1, (2, width)).astype(np.int64)
    before = int(first @ second)
    assert int(turn(first, block) @ turn(second, block)) == block * before


def test_turning_leaves_its_argument_as_it_is():
    rows = np.arange(32, dtype=np.float32).reshape(2, 16)
    turn(rows, 16)
    assert np.array_equal(rows, np.arange(32, dtype=np.float32).reshape(2, 16))


def test_the_largest_answer_stays_within_32_bits():
    query = signs(512).astype(np.int32) * VECTOR_MAX
    turned = turn(query, 256)
    assert int(turned[0]) * 255 == 256 * VECTOR_MAX * 255 < 2**31
    assert np.array_equal(turned, turn(query.astype(np.int64), 256))


def test_the_native_kernel_and_the_portable_loop_agree_on_the_largest_answer():
    draw = np.random.default_rng(0)
    codes = draw.integers(0, 256, (70, 128), dtype=np.uint8)
    weights = np.full(1024, 255, dtype=np.uint8)
    query = Query((signs(1024).astype(np.int32) * VECTOR_MAX).astype(np.int16), 1.0, 16)
    norms = np.full(70, 65_535, dtype=np.uint16)
    products = turn(query.codes.astype(np.int32), 256) * weights
    expected = [int(one) * 65_535 for one in portable_scores(codes, products)]
    assert record_scores(codes, norms, weights, query, 256).tolist() == expected


def test_signs_are_published_and_never_change():
    assert hashlib.sha256(signs(65_536).tobytes()).hexdigest() == SIGNS
    assert np.array_equal(signs(100), signs(1000)[:100])


@pytest.mark.parametrize("block", [0, 2, 8, 3, 1024])
def test_other_blocks_are_refused(block):
    with pytest.raises(ValueError, match="power of four"):
        turn(np.zeros(8), block)


def test_a_turned_sketch_is_nearer_to_a_vector_with_few_large_coordinates():
    draw = np.random.default_rng(3)
    rows = draw.standard_t(3, (50, 1024)).astype(np.float32)
    clip = float(np.linalg.norm(rows, axis=1).max())

    def nearness(block: int) -> float:
        sizes = usual_sizes(np.square(rows).mean(axis=0, dtype=np.float64), block)
        weights = quantise_weights(sizes)
        codes, norms = sketch(rows, weights, clip, block)
        known = (np.unpackbits(codes, axis=1).astype(float) * 2 - 1) * weights * norms[:, None]
        turned = turn(rows, block)
        lengths = np.linalg.norm(known, axis=1) * np.linalg.norm(turned, axis=1)
        return float(((known * turned).sum(axis=1) / lengths).mean())

    assert nearness(256) > 0.78 > nearness(1) + 0.02


SIGNS = "5f60ae0f80e8b43a19f9fd8c2a77f798ae7cb4d5089a500ed23c208c6647d787"
