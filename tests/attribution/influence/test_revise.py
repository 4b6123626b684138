"""Records come into an index and leave it without the others being computed again."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from attribution.influence import build as build_module  # noqa: E402
from attribution.influence.build import build_with  # noqa: E402
from attribution.influence.config import InfluenceConfig  # noqa: E402
from attribution.influence.errors import (  # noqa: E402
    AdapterMismatchError,
    DriftError,
    InfluenceError,
    RecordError,
)
from attribution.influence.examples import IndexedExample  # noqa: E402
from attribution.influence.index import Index  # noqa: E402
from attribution.influence.model import load  # noqa: E402
from attribution.influence.revise import append, remove  # noqa: E402
from attribution.influence.scorer import Scorer  # noqa: E402
from tests.attribution.influence.conftest import save_tiny_adapter, tiny_examples  # noqa: E402

CONFIG = InfluenceConfig(fit_min=12, shard_records=7, batch_tokens=48)
FIRST = tiny_examples()  # 24 records of group-0, group-1, group-2
LATER = [
    IndexedExample(f"later-{number}", f"group-{2 + number % 2}", one.input_ids, one.loss_mask)
    for number, one in enumerate(tiny_examples(10, seed=9))
]  # of group-2, which is there already, and of group-3, which is new


@pytest.fixture(scope="module")
def first(model, tmp_path_factory) -> Index:
    folder = tmp_path_factory.mktemp("first")
    build_with(model, CONFIG, FIRST, folder)
    return Index.open(folder)


@pytest.fixture(scope="module")
def longer(model, first, tmp_path_factory) -> Index:
    folder = tmp_path_factory.mktemp("longer")
    append(model, first, CONFIG, LATER, folder)
    return Index.open(folder)


def rows(index: Index) -> dict[str, tuple[bytes, int, bytes]]:
    return {
        entry.record_id: (index.codes[r].tobytes(), int(index.norms[r]), index.vectors[r].tobytes())
        for r, entry in enumerate(index.records)
    }


def test_old_rows_are_the_same_bytes_and_new_ones_are_there(first, longer):
    old, new = rows(first), rows(longer)
    assert {name: new[name] for name in old} == old
    assert set(new) - set(old) == {one.record_id for one in LATER}
    assert longer.manifest.counts == {"group-0": 8, "group-1": 8, "group-2": 13, "group-3": 5}
    assert longer.committed_root() == longer.manifest.root
    assert longer.manifest.header["revises"] == first.manifest.root


def test_groups_without_new_records_keep_their_sum(model, first, longer):
    assert np.array_equal(longer.sums[:2], first.sums[:2])
    assert not np.array_equal(longer.sums[2], first.sums[2])
    query = Scorer.of(longer, model).query(FIRST[0].input_ids, FIRST[0].loss_mask)
    before, after = first.score(query).groups, longer.score(query).groups
    assert [after[f"group-{n}"] for n in (0, 1)] == [before[f"group-{n}"] for n in (0, 1)]


def test_an_appended_record_helps_its_own_answer_most(model, longer):
    scorer = Scorer.of(longer, model)
    best = [scorer.score(one.input_ids, one.loss_mask).top_records(1)[0][0] for one in LATER]
    assert sum(found == one.record_id for found, one in zip(best, LATER, strict=True)) >= 9


def test_the_old_index_stays_as_it_is(first, longer):
    assert Index.open(first.folder).manifest == first.manifest


def test_removing_what_was_appended_leaves_the_first_sums(model, first, longer, tmp_path):
    names = [one.record_id for one in LATER]
    group_2 = [one for one in FIRST if one.group_id == "group-2"]
    remove(model, longer, CONFIG, names, group_2, tmp_path / "shorter")
    shorter = Index.open(tmp_path / "shorter")
    assert shorter.committed_root() == shorter.manifest.root
    assert shorter.manifest.counts == first.manifest.counts
    assert np.array_equal(shorter.sums[:2], first.sums[:2])
    # Batches were cut otherwise, so a coordinate may have been rounded the other way.
    assert np.abs(shorter.sums[2] - first.sums[2]).max() <= len(group_2)


def test_a_group_whose_last_record_goes_is_gone(model, longer, tmp_path):
    names = [one.record_id for one in LATER if one.group_id == "group-3"]
    manifest = remove(model, longer, CONFIG, names, [], tmp_path / "shorter")
    assert "group-3" not in manifest.counts
    shorter = Index.open(tmp_path / "shorter")
    assert np.array_equal(shorter.sums, longer.sums[:3])


def test_a_stopped_append_goes_on_after_its_last_shard(model, first, longer, tmp_path, monkeypatch):
    real, made = build_module.make_shard, []

    def stops_after_one(*args):
        if made:
            raise KeyboardInterrupt
        made.append(1)
        return real(*args)

    monkeypatch.setattr(build_module, "make_shard", stops_after_one)
    with pytest.raises(KeyboardInterrupt):
        append(model, first, CONFIG, LATER, tmp_path / "resumed")
    monkeypatch.setattr(build_module, "make_shard", lambda *a: made.append(1) or real(*a))
    assert append(model, first, CONFIG, LATER, tmp_path / "resumed") == longer.manifest
    assert len(made) == 2


def test_a_record_that_is_there_already_is_named(model, first, tmp_path):
    with pytest.raises(RecordError, match=r"record-005.*in the index already"):
        append(model, first, CONFIG, [FIRST[5]], tmp_path / "twice")


def test_a_removed_record_must_be_there(model, first, tmp_path):
    with pytest.raises(RecordError, match=r"nobody.*not in the index"):
        remove(model, first, CONFIG, ["nobody"], [], tmp_path / "none")


def test_the_rest_of_the_group_is_needed_as_it_was(model, first, tmp_path):
    name, *others = [one for one in FIRST if one.group_id == "group-0"]
    with pytest.raises(RecordError, match=r"record-003.*needed to add its group up"):
        remove(model, first, CONFIG, [name.record_id], others[1:], tmp_path / "short")
    altered = IndexedExample("record-003", "group-0", [1, 2, 3], [0, 1, 1])
    with pytest.raises(RecordError, match=r"record-003.*not what stands in the index"):
        remove(model, first, CONFIG, [name.record_id], [altered, *others[1:]], tmp_path / "other")


def test_an_index_is_never_emptied(model, first, tmp_path):
    with pytest.raises(InfluenceError, match="No record would be left"):
        remove(model, first, CONFIG, [one.record_id for one in FIRST], [], tmp_path / "empty")


def test_records_unlike_those_of_the_fit_ask_for_a_new_one(model, first, tmp_path):
    # One target token each, where the fit had several: far smaller gradients.
    short = [
        IndexedExample(f"short-{n}", "group-0", one.input_ids[:2], [0, 1])
        for n, one in enumerate(tiny_examples(12, seed=4))
    ]
    narrow = InfluenceConfig(fit_min=12, shard_records=7, batch_tokens=48, drift_max=1.05)
    with pytest.raises(DriftError, match="Build the index anew"):
        append(model, first, narrow, short, tmp_path / "drifted")


def test_another_configuration_is_refused(model, first, tmp_path):
    other = InfluenceConfig(fit_min=12, clip_percentile=90.0)
    with pytest.raises(InfluenceError, match=r"clip_percentile 50\.0, not 90\.0"):
        append(model, first, other, LATER, tmp_path / "other")


def test_another_adapter_is_refused(first, tmp_path):
    other = load(*save_tiny_adapter(tmp_path, seed=5), "cpu")
    with pytest.raises(AdapterMismatchError):
        append(other, first, CONFIG, LATER, tmp_path / "other")


def test_it_never_overwrites_the_index_that_receipts_name(model, first):
    with pytest.raises(InfluenceError, match="another folder"):
        append(model, first, CONFIG, LATER, first.folder)
