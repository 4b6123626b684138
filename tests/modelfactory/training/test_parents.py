"""An adapter that starts from another, and one that is merged of several."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from modelfactory.training import train
from modelfactory.training.job import Exit, Job, JobError, Kind, read_events
from modelfactory.training.parents import A, B, Parent, merged, read_parent


def trained(make_job, name: str, **recipe) -> Path:
    folder = make_job(name, records=12, epochs=2, learning_rate=0.05, **recipe)
    assert train.run(folder) == Exit.FINISHED
    return folder / "adapter"


def with_parents(folder: Path, adapters: list[Path], weights: list[int], **changes) -> Path:
    """The job of `folder`, now starting from `adapters`."""
    for number, adapter in enumerate(adapters):
        target = folder / "parents" / str(number)
        target.mkdir(parents=True)
        for file in adapter.iterdir():
            (target / file.name).write_bytes(file.read_bytes())
    values = json.loads((folder / "job.json").read_text()) | {"parents": weights} | changes
    Job(**values).write(folder)
    return folder


def evaluation(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())["evaluation"]


def failure(folder: Path) -> str:
    assert train.run(folder) == Exit.FAILED
    failed = [e for e in read_events(folder / "events.jsonl", 0)[0] if e.kind == Kind.FAILED]
    return failed[-1].data["reason"]


def deltas(parent: Parent) -> dict[str, torch.Tensor]:
    """What the adapter adds to each weight."""
    return {
        module: parent.scale
        * parent.tensors[module + B].double()
        @ parent.tensors[module + A].double()
        for module in parent.modules
    }


def test_a_run_starts_where_its_parent_ended(make_job) -> None:
    parent = trained(make_job, "parent")
    told = evaluation(parent.parent)
    # A learning rate so small that nothing moves shows what it started from.
    child = with_parents(
        make_job("child", records=12, epochs=1, learning_rate=1e-6), [parent], [10_000]
    )
    assert train.run(child) == Exit.FINISHED
    assert evaluation(child)["loss_before"] == pytest.approx(told["loss_before"], rel=1e-6)
    assert evaluation(child)["loss_parent"] == pytest.approx(told["loss_after"], rel=1e-6)
    before, after = (
        load_file(f / "adapter_model.safetensors") for f in (parent, child / "adapter")
    )
    assert all(torch.allclose(before[name], after[name], atol=1e-4) for name in before)


def test_a_stopped_run_goes_on_from_its_checkpoint_and_not_from_its_parent(
    make_job, monkeypatch
) -> None:
    class StopAtThird:
        looks = 3

        def __bool__(self) -> bool:
            StopAtThird.looks -= 1
            return StopAtThird.looks == 0

    parent = trained(make_job, "parent")
    recipe = {"records": 12, "epochs": 3, "learning_rate": 0.02}
    whole = with_parents(make_job("whole", **recipe), [parent], [10_000])
    assert train.run(whole) == Exit.FINISHED
    cut = with_parents(make_job("cut", **recipe), [parent], [10_000])
    monkeypatch.setattr(train, "Stop", StopAtThird)
    assert train.run(cut) == Exit.STOPPED
    assert train.run(cut) == Exit.FINISHED
    files = [f / "adapter" / "adapter_model.safetensors" for f in (whole, cut)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert evaluation(cut)["loss_parent"] == evaluation(whole)["loss_parent"]


@pytest.mark.parametrize("other", [{"rank": 4}, {"targets": "attention"}, {"use_dora": True}])
def test_another_recipe_than_the_parents_is_refused(make_job, other) -> None:
    parent = trained(make_job, "parent")
    child = with_parents(make_job("child", records=12, **other), [parent], [10_000])
    assert "Keep rank, alpha, targets" in failure(child)


def test_a_merge_adds_what_its_parents_add_by_weight(make_job) -> None:
    parents = [
        trained(make_job, "one", seed=1),
        trained(make_job, "two", seed=2, rank=3, alpha=5),
        trained(make_job, "three", seed=3, use_rslora=True),
    ]
    weights = [2_500, 6_001, 1_499]
    folder = make_job("merge", records=6, rank=7, alpha=7)
    assert train.run(with_parents(folder, parents, weights, is_merge=True)) == Exit.FINISHED
    made = deltas(read_parent(folder / "adapter", 10_000))
    parts = [
        deltas(read_parent(path, weight)) for path, weight in zip(parents, weights, strict=True)
    ]
    for module, delta in made.items():
        wanted = sum(w / 10_000 * part[module] for w, part in zip(weights, parts, strict=True))
        assert torch.allclose(delta, wanted, rtol=1e-5, atol=2e-7)
    result = json.loads((folder / "result.json").read_text())
    assert result["steps"] == 0
    assert result["evaluation"]["held_out_records"] == 6
    assert result["evaluation"]["loss_after"] < result["evaluation"]["loss_before"]


def test_a_merge_of_one_adapter_with_itself_is_the_adapter(make_job) -> None:
    parent = trained(make_job, "parent")
    pair = [read_parent(parent, 4_000), read_parent(parent, 6_000)]
    made = Parent(merged(pair), {"r": 4, "lora_alpha": 4}, 10_000)
    for module, delta in deltas(pair[0]).items():
        assert torch.allclose(deltas(made)[module], delta, rtol=1e-5, atol=2e-7)


@pytest.mark.parametrize(
    ("recipe", "why"),
    [({"use_dora": True}, "DoRA"), ({"targets": "attention"}, "different layers")],
)
def test_what_does_not_add_up_is_not_merged(make_job, recipe, why) -> None:
    one, two = trained(make_job, "one"), trained(make_job, "two", **recipe)
    folder = make_job("merge", records=6, rank=4, alpha=4)
    assert why in failure(with_parents(folder, [one, two], [5_000, 5_000], is_merge=True))
    with pytest.raises(JobError, match="whose weights make 10000"):
        merged([read_parent(one, 5_000), read_parent(one, 4_999)])


def test_a_merge_that_nothing_can_measure_is_refused(make_job) -> None:
    one = trained(make_job, "one")
    folder = make_job("merge", records=0, rank=4, alpha=4)
    assert "how good the merge is" in failure(
        with_parents(folder, [one, one], [5_000, 5_000], is_merge=True)
    )
