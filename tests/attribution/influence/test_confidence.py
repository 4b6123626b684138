"""Clear influence is told from what any text has: nulls of foreign records and of labels."""

import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from attribution.influence import confidence, scores
from attribution.influence.confidence import Null
from attribution.influence.errors import IndexFileError
from attribution.influence.index import NULL, Index
from attribution.influence.quantise import quantise_query, sketch
from attribution.translog import recompute

WIDTH, GROUPS, EACH = 1024, 4, 12
ROWS = {f"g{n}": slice(n * EACH, (n + 1) * EACH) for n in range(GROUPS)}


@pytest.fixture(scope="module")
def sketched():
    """Records whose groups each lean to a direction of their own: (codes, norms, weights, lean)."""
    draw = np.random.default_rng(0)
    lean = draw.standard_normal((GROUPS, WIDTH))
    rows = np.repeat(lean, EACH, axis=0) * 0.5 + draw.standard_normal((GROUPS * EACH, WIDTH))
    weights = draw.integers(1, 256, WIDTH).astype(np.uint8)
    clip = float(np.linalg.norm(rows, axis=1).max())
    return *sketch(rows.astype(np.float32), weights, clip), weights, lean


def queries(count: int, seed: int):
    draw = np.random.default_rng(seed)
    return [quantise_query(draw.standard_normal(WIDTH).astype(np.float32), 8) for _ in range(count)]


@pytest.fixture(scope="module")
def null(sketched) -> Null:
    codes, norms, weights, _ = sketched
    return confidence.fit(queries(120, 1), codes, norms, weights, list(ROWS.values()), "ab")


def judged(sketched, null, query):
    codes, norms, weights, _ = sketched
    found = scores.record_scores(codes, norms, weights, query)
    return confidence.judge(null, found, query, WIDTH, ROWS)


def test_an_answer_that_leans_to_a_group_is_clear_and_names_it(sketched, null):
    lean = sketched[3][2] + np.random.default_rng(5).standard_normal(WIDTH)
    found = judged(sketched, null, quantise_query(lean.astype(np.float32), 8))
    assert found.clear
    assert max(found.scores, key=lambda name: found.scores[name]) == "g2"
    assert max(found.apart, key=lambda name: found.apart[name]) == "g2"
    assert found.apart["g2"] > 3 * confidence.UNIT


def test_hardly_any_foreign_text_is_called_clear(sketched, null):
    clear = sum(judged(sketched, null, query).clear for query in queries(300, 2))
    assert clear <= 300 * 5 / 100  # the level is one in a hundred


def test_a_loud_answer_is_no_clearer_than_a_quiet_one(sketched, null):
    quiet = np.round(sketched[3][1] * 20).clip(-60, 60).astype(np.int16)
    one = judged(sketched, null, quantise_query(quiet.astype(np.float32), 8))
    loud = judged(sketched, null, quantise_query(1000 * quiet.astype(np.float32), 8))
    assert one == loud


def common_text(count: int, seed: int, alike: float = 6.0):
    """What records get of texts: noise, and along one line shared by all of them, in some more."""
    draw = np.random.default_rng(seed)
    line = np.random.default_rng(100).standard_normal(GROUPS * EACH)
    found = draw.standard_normal((count, GROUPS * EACH)) + alike * np.outer(
        draw.standard_normal(count), line
    )
    return np.rint(found * 10_000).astype(np.int64)


def test_what_texts_have_in_common_is_taken_out():
    rows = list(ROWS.values())
    with_it = confidence.fit_to(common_text(120, 1), rows, "")
    without = confidence.fit_to(common_text(120, 1), rows, "", directions=0)
    leaning = common_text(200, 2)
    leaning[:, ROWS["g1"]] += 15_000  # a quarter of the deviation of what is common
    found = [
        np.mean([confidence.heights(null, u, rows).max() > null.threshold for u in leaning])
        for null in (with_it, without)
    ]
    assert found[0] > 0.9
    assert found[1] < 0.15
    null_text = [confidence.heights(with_it, u, rows).max() for u in common_text(300, 3)]
    assert np.mean(np.array(null_text) > with_it.threshold) <= 0.06


def test_directions_are_whole_numbers_of_length_one_and_at_right_angles():
    records = confidence.fit_to(common_text(120, 1), list(ROWS.values()), "").records
    directions = records[:, 3:].T / confidence.SCALE
    assert directions.shape == (3, GROUPS * EACH)
    assert np.allclose(directions @ directions.T, np.eye(3), atol=1e-5)


def test_a_null_of_before_judges_as_it_did(sketched, null):
    """Version 1: no directions, the ten largest; an index keeps what its header states."""
    before = Null.read(
        null.published("") | {"version": 1, "level_ppm": 10_000, "top": 2, "threshold": 3_000},
        np.array([[1_000, 10]] * GROUPS * EACH, dtype=np.int64),
    )
    before = replace(before, groups=np.array([[500, 1_000]] * GROUPS, dtype=np.int64))
    u = np.arange(GROUPS * EACH, dtype=np.int64) + 1_000
    found = confidence.heights(before, u, list(ROWS.values()))
    assert found.tolist() == [550, 1_750, 2_950, 4_150]  # (1000 * 10.5 / 10 - 500), and so on
    assert before.published("")["level_ppm"] == 10_000


@pytest.mark.parametrize("directions", [0, 1, 3])
def test_the_offline_verifier_comes_to_the_same_heights_of_records(directions):
    foreign = common_text(80, 4)
    foreign[:, 5] = 7  # a record that all texts leave alike
    records = confidence.fit_to(foreign, list(ROWS.values()), "", directions=directions).records
    for u in [*common_text(20, 5), np.full(GROUPS * EACH, 10**12, dtype=np.int64)]:
        theirs = recompute._above(u.tolist(), records.tolist())
        assert theirs == confidence._above(u, records).tolist()


def test_deviations_from_permuted_labels_are_those_of_every_permutation():
    values = np.array([7, -3, 12, 5, 0, 9], dtype=np.int64) * 10**6
    rows = {"a": slice(0, 2), "b": slice(2, 6)}
    dealt = [sum(order[:2]) for order in permutations(values.tolist())]
    mean, spread = np.mean(dealt), np.std(dealt)
    expected = math.floor((values[:2].sum() - mean) / spread * confidence.UNIT)
    found = confidence._apart(values, rows)
    assert abs(found["a"] - expected) <= 2
    assert found["a"] + found["b"] in (-1, 0)


def test_one_group_alone_cannot_be_told_apart():
    assert confidence._apart(np.array([1, 2], dtype=np.int64), {"a": slice(0, 2)}) == {}


def test_too_few_foreign_records_make_no_null(sketched):
    codes, norms, weights, _ = sketched
    with pytest.raises(ValueError, match="needs 50 foreign records, there are 3"):
        confidence.fit(queries(3, 1), codes, norms, weights, list(ROWS.values()), "")


def foreign_examples():
    from tests.attribution.influence.conftest import tiny_examples

    made = tiny_examples(60, seed=9)
    return [replace(one, record_id=f"foreign-{n}") for n, one in enumerate(made)]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    pytest.importorskip("torch")
    from attribution.influence.build import build_with
    from attribution.influence.config import InfluenceConfig
    from attribution.influence.model import load
    from tests.attribution.influence.conftest import save_tiny_adapter, tiny_examples

    folder = tmp_path_factory.mktemp("null")
    model = load(*save_tiny_adapter(folder), "cpu")
    config = InfluenceConfig(fit_min=12, batch_tokens=256)
    build_with(model, config, tiny_examples(), folder / "one", foreign=foreign_examples())
    return model, config, folder / "one"


def test_the_null_stands_under_the_root(built):
    index = Index.open(built[2])
    stated = index.manifest.header["confidence"]
    assert (stated["foreign_records"], len(stated["groups"])) == (60, 3)
    assert index.committed_root() == index.manifest.root
    one = foreign_examples()[0]
    from attribution.influence.scorer import Scorer

    found = Scorer.of(index, built[0]).score(one.input_ids, one.loss_mask).confidence
    assert found is not None
    assert set(found.scores) == set(index.manifest.group_ids)


def test_an_altered_null_is_found_by_the_root_alone(built, tmp_path):
    import json
    import shutil

    folder = tmp_path / "altered"
    shutil.copytree(built[2], folder)
    array = np.load(folder / NULL)
    array[0, 0] += 1
    np.save(folder / NULL, array)
    from attribution.influence.index import file_sha256

    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"][NULL]["sha256"] = file_sha256(folder / NULL)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(IndexFileError, match=r"null\.npy: it was altered"):
        Index.open(folder)


def test_an_appended_index_has_a_null_of_its_own_groups(built, tmp_path):
    from attribution.influence.revise import append
    from tests.attribution.influence.conftest import tiny_examples

    model, config, folder = built
    more = [
        replace(one, record_id=f"new-{n}", group_id="group-9")
        for n, one in enumerate(tiny_examples(4, seed=3))
    ]
    append(model, Index.open(folder), config, more, tmp_path / "two", foreign=foreign_examples())
    longer = Index.open(tmp_path / "two")
    assert longer.null is not None
    assert longer.null.records.shape == (28, 4)  # with one direction, since 16 have one
    assert len(longer.null.groups) == 4
    append(model, Index.open(folder), config, more, tmp_path / "three")
    assert Index.open(tmp_path / "three").null is None
