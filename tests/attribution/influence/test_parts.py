"""An index has the same bytes in however many parts, by however many processes, it was made."""

import shutil

import pytest

torch = pytest.importorskip("torch")

from attribution.influence import build as build_module  # noqa: E402
from attribution.influence.__main__ import main  # noqa: E402
from attribution.influence.build import build_with  # noqa: E402
from attribution.influence.config import InfluenceConfig  # noqa: E402
from attribution.influence.errors import (  # noqa: E402
    AdapterMismatchError,
    IndexFileError,
    RecordError,
)
from attribution.influence.examples import IndexedExample  # noqa: E402
from attribution.influence.index import FILES, MANIFEST, NULL, Index  # noqa: E402
from attribution.influence.model import load  # noqa: E402
from attribution.influence.parts import Plan, make_part, merge, plan  # noqa: E402
from tests.attribution.influence.conftest import save_tiny_adapter, tiny_examples  # noqa: E402

COUNT = 31  # five shards of seven, the last of three
NAMES = (*FILES, MANIFEST, NULL)


@pytest.fixture(scope="module")
def foreign():
    return [
        IndexedExample(f"foreign-{n}", "foreign", e.input_ids, e.loss_mask)
        for n, e in enumerate(tiny_examples(60, seed=9))
    ]


@pytest.fixture(scope="module")
def alone(model, foreign, tmp_path_factory):
    """The index as one process builds it in one go."""
    config = InfluenceConfig(fit_min=12, shard_records=7, batch_tokens=48)
    folder = tmp_path_factory.mktemp("alone")
    build_with(model, config, tiny_examples(COUNT), folder, foreign=foreign)
    return folder


@pytest.fixture
def planned(model, config, foreign, tmp_path):
    return plan(model, config, tiny_examples(COUNT), tmp_path / "index", 3, foreign)


def same_bytes(one, other):
    return [name for name in NAMES if (one / name).read_bytes() != (other / name).read_bytes()]


@pytest.mark.parametrize(("asked", "parts"), [(1, 1), (2, 2), (5, 5), (99, 5)])
def test_any_number_of_parts_gives_the_same_bytes(
    model, config, foreign, alone, tmp_path, asked, parts
):
    planned = plan(model, config, tiny_examples(COUNT)[::-1], tmp_path / "index", asked, foreign)
    assert sum(part.rows for part in planned.parts) == COUNT
    for part in reversed(planned.parts):  # in any order
        make_part(model, Plan.open(planned.folder), part.number)
    merge(model, planned, tmp_path / "index")
    assert (len(planned.parts), same_bytes(alone, tmp_path / "index")) == (parts, [])


def test_parts_made_elsewhere_are_put_together_here(folders, planned, alone, model, tmp_path):
    """Each process has a copy of the plan; only the shards come back."""
    for part in planned.parts:
        copy = shutil.copytree(planned.folder, tmp_path / f"machine-{part.number}")
        for other in planned.parts:
            if other != part:  # a worker is given the records of its own part alone
                (copy / other.records).unlink()
        assert main(["part", str(copy), str(part.number), *map(str, folders)]) == 0
        for shard in copy.glob("shard-*"):
            shutil.copy(shard, planned.folder / shard.name)
    merge(model, planned, tmp_path / "index")
    assert same_bytes(alone, tmp_path / "index") == []


def test_a_stopped_part_goes_on_after_its_last_shard(model, planned, monkeypatch):
    real, made = build_module.make_shard, []

    def dies_at_the_second(*args):
        made.append(1)
        if len(made) == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(build_module, "make_shard", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        make_part(model, planned, 2)
    told = []
    make_part(model, planned, 2, on_shard=lambda number, path: told.append((number, path.name)))
    assert len(made) == 3  # the first shard was not made again, but is told
    assert told == [(3, "shard-000003.npz"), (4, "shard-000004.npz")]


def test_an_unfinished_plan_is_not_fitted_again(model, config, foreign, planned, monkeypatch):
    monkeypatch.setattr(build_module.curvature, "fit", None)
    (planned.folder / "plan.json").unlink()
    again = plan(model, config, tiny_examples(COUNT), planned.folder.parent.parent, 3, foreign)
    assert again == planned


def test_a_missing_shard_is_named(model, planned, tmp_path):
    make_part(model, planned, 0)
    make_part(model, planned, 2)
    with pytest.raises(IndexFileError, match=r"shard-000001\.npz: the shard is missing"):
        merge(model, planned, tmp_path / "index")
    assert not (tmp_path / "index" / MANIFEST).exists()


@pytest.mark.parametrize("place", [200, -200])
def test_an_altered_shard_is_named_and_made_again(model, planned, alone, tmp_path, place):
    for part in planned.parts:
        make_part(model, planned, part.number)
    shard = planned.folder / "shard-000002.npz"
    data = bytearray(shard.read_bytes())
    data[place] ^= 1
    shard.write_bytes(data)
    with pytest.raises(IndexFileError, match=r"shard-000002\.npz: .*damaged"):
        merge(model, planned, tmp_path / "index")
    make_part(model, planned, 1)
    merge(model, planned, tmp_path / "index")
    assert same_bytes(alone, tmp_path / "index") == []


def test_a_shard_of_another_build_is_refused(model, config, planned, tmp_path):
    other = plan(model, config, tiny_examples(COUNT, seed=5), tmp_path / "other", 1)
    make_part(model, other, 0)
    for shard in other.folder.glob("shard-*"):
        shutil.copy(shard, planned.folder / shard.name)
    with pytest.raises(IndexFileError, match=r"shard-000000\.npz: .*of another build"):
        merge(model, planned, tmp_path / "index")


@pytest.mark.parametrize("name", ["factors.npz", "selection.npz", "records-00001.npz"])
def test_an_altered_file_of_the_plan_is_named(folders, planned, name, capsys):
    data = bytearray((planned.folder / name).read_bytes())
    data[-1] ^= 1
    (planned.folder / name).write_bytes(data)
    assert main(["part", str(planned.folder), "1", *map(str, folders)]) == 1
    assert f"{name}: it was altered" in capsys.readouterr().err


def test_a_plan_of_another_adapter_is_refused(planned, tmp_path):
    other = load(*save_tiny_adapter(tmp_path, seed=1), "cpu")
    for work in (make_part, merge):
        with pytest.raises(AdapterMismatchError, match="is planned for adapter"):
            work(other, planned, 0 if work is make_part else tmp_path)


def test_a_plan_is_named_where_it_is_none(tmp_path, capsys):
    (tmp_path / "plan.json").write_text('{"format":"openledger-index-plan/1"}')
    assert main(["part", str(tmp_path), "0", "base", "adapter"]) == 1
    assert "plan.json: it is no plan of a build" in capsys.readouterr().err


def test_a_gradient_that_is_no_number_names_its_record_and_keeps_what_is_done(tmp_path, config):
    model = load(*save_tiny_adapter(tmp_path), "cpu")
    examples = [
        IndexedExample(e.record_id, e.group_id, [t % 40 for t in e.input_ids], e.loss_mask)
        for e in tiny_examples(30)
    ]
    # The last of all rows, and in no sample.
    examples.append(IndexedExample("no-number", "group-9", [47, 1, 2, 3], [0, 1, 1, 1]))
    few = InfluenceConfig(fit_fraction=0.01, fit_min=12, shard_records=7, batch_tokens=48)
    with torch.no_grad():
        model.network.get_input_embeddings().weight[47] = float("nan")
    planned = plan(model, few, examples, tmp_path / "index", 2)
    make_part(model, planned, 0)
    with pytest.raises(RecordError, match=r"no-number.*not a finite number"):
        make_part(model, planned, 1)
    assert len(list(planned.folder.glob("shard-*.npz"))) == 4  # all but the one that has it


def test_a_full_disk_names_the_shard_and_the_part_goes_on_later(model, planned, alone, tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
    try:
        with pytest.raises(IndexFileError, match=r"shard-000000\.npz: it cannot be written"):
            make_part(model, planned, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(planned.folder.glob(".partial-*")) == []
    for part in planned.parts:
        make_part(model, planned, part.number)
    merge(model, planned, tmp_path / "index")
    assert Index.open(tmp_path / "index").manifest.root == Index.open(alone).manifest.root


def test_a_shard_of_another_fit_of_the_same_records_is_refused(
    model, config, planned, tmp_path, monkeypatch
):
    fit = build_module.curvature.fit

    def rounded_otherwise(*args):
        factors = fit(*args)
        factors.inverse_roots[0].mul_(1 + 1e-6)
        return factors

    monkeypatch.setattr(build_module.curvature, "fit", rounded_otherwise)
    foreign = planned.foreign()
    other = plan(model, config, tiny_examples(COUNT), tmp_path / "other", 1, foreign)
    assert other.fingerprint == planned.fingerprint
    make_part(model, other, 0)
    for shard in other.folder.glob("shard-*"):
        shutil.copy(shard, planned.folder / shard.name)
    with pytest.raises(IndexFileError, match=r"shard-000000\.npz: the shard is missing"):
        merge(model, planned, tmp_path / "index")
