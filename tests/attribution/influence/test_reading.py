"""Sketches from a file in blocks: the rows that stand there, whether cached or not."""

import os
from pathlib import Path

import numpy as np
import pytest

from attribution.influence import reading
from attribution.influence.quantise import Query
from attribution.influence.scores import record_scores


@pytest.fixture
def codes(tmp_path, monkeypatch):
    """700 sketches in a file, with its header, in blocks of 100."""
    monkeypatch.setattr(reading, "BLOCK", 100 * 40)
    rows = np.random.default_rng(0).integers(0, 256, (700, 40), dtype=np.uint8)
    np.save(tmp_path / "codes.npy", rows)
    return np.load(tmp_path / "codes.npy", mmap_mode="r")


@pytest.mark.parametrize("cached", [True, False])
def test_blocks_are_the_rows_in_their_order(codes, cached, monkeypatch):
    monkeypatch.setattr(reading, "_is_cached", lambda *place: cached)
    found = [(begin, block.copy()) for begin, block in reading.blocks(codes)]
    assert [begin for begin, _ in found] == list(range(0, 700, 100))
    assert np.array_equal(np.concatenate([block for _, block in found]), codes)


def test_a_part_of_a_map_is_read_at_its_own_place(codes, monkeypatch):
    monkeypatch.setattr(reading, "_is_cached", lambda *place: False)
    found = np.concatenate([block.copy() for _, block in reading.blocks(codes[150:501])])
    assert np.array_equal(found, codes[150:501])


def test_scores_do_not_depend_on_how_they_are_read(codes, monkeypatch):
    query = Query(np.arange(-160, 160, dtype=np.int16), 1.0, 16)
    norms, weights = np.arange(700, dtype=np.uint16), np.arange(320, dtype=np.uint8) % 15 + 1
    whole = record_scores(np.array(codes), norms, weights, query)
    monkeypatch.setattr(reading, "_is_cached", lambda *place: False)
    assert np.array_equal(record_scores(codes, norms, weights, query), whole)


def test_a_file_that_became_shorter_is_an_error_and_no_zeros(codes, monkeypatch):
    monkeypatch.setattr(reading, "_is_cached", lambda *place: False)
    os.truncate(codes.filename, 128 + 350 * 40)
    with pytest.raises(OSError, match="ends before its last record"):
        for _ in reading.blocks(codes):
            pass


def test_a_file_that_was_removed_is_read_from_its_map(codes, monkeypatch):
    monkeypatch.setattr(reading, "_is_cached", lambda *place: False)
    whole = np.array(codes)
    Path(codes.filename).unlink()
    found = np.concatenate([block.copy() for _, block in reading.blocks(codes)])
    assert np.array_equal(found, whole)


def test_a_page_in_the_cache_is_known_to_be_there(codes):
    file = os.open(codes.filename, os.O_RDONLY)
    try:
        os.pread(file, 28_128, 0)
        assert reading._is_cached(file, 128, 4000) in (True, not hasattr(os, "RWF_NOWAIT"))
    finally:
        os.close(file)
