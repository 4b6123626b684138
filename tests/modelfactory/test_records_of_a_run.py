"""Which records a worker trains on at each attempt, and what is left of them afterwards."""

import json

import pytest
from django.test import Client

from attribution.learnt import grouped_training_records
from attribution.translog import canonical
from datanets.models import Datanet, Record
from datanets.services.versions import publish_version
from modelfactory import jobs
from modelfactory.errors import RunError
from modelfactory.models import Run, RunVersion
from modelfactory.services import runs
from modelfactory.training.job import Exit
from tests.modelfactory import world
from tests.modelfactory.world import NOW

GONE = ["WITHDRAWN", "TAKEN_DOWN"]


@pytest.fixture
def cancelled(draft, builder):
    """A run with records and a checkpoint of an earlier attempt."""
    run = runs.start_run(run=draft, acting_user=builder, at=NOW)
    folder = prepare(run)
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "state.pt").write_bytes(b"state")
    return runs.cancel_run(run=run, acting_user=builder, at=NOW)


def prepare(run):
    return jobs.prepare(run, device="cpu", dtype="float32")


def records_in(folder):
    lines = (folder / "records.jsonl").read_text("utf-8").splitlines()
    return {json.loads(line)["record"] for line in lines}


def restart(run, builder):
    return runs.restart_run(run=run, acting_user=builder, at=NOW)


def test_a_restart_on_the_same_records_keeps_the_checkpoint(cancelled, builder):
    folder = prepare(restart(cancelled, builder))
    assert (folder / "checkpoint" / "state.pt").exists()


@pytest.mark.parametrize("state", GONE)
def test_a_restart_leaves_out_what_was_withheld_since(cancelled, builder, version, state):
    record = version.entries.first().record_id
    assert str(record) in records_in(jobs.folder_of(cancelled.pk))
    Record.objects.filter(pk=record).update(state=state)
    run = restart(cancelled, builder)
    folder = prepare(run)
    assert len(records_in(folder)) == 19
    assert str(record) not in records_in(folder)
    assert not (folder / "checkpoint").exists()
    assert [f["record"] for f in Run.objects.get(pk=run.pk).findings] == [str(record)]


def test_a_run_on_a_datanet_that_was_taken_down_does_not_start_again(cancelled, builder):
    Datanet.objects.update(state="TAKEN_DOWN")
    with pytest.raises(RunError, match="You may not train on Colours") as caught:
        restart(cancelled, builder)
    assert caught.value.code == "VERSION"


@pytest.mark.parametrize("state", ["TAKEN_DOWN", "DRAFT"])
def test_a_run_whose_datanet_was_closed_while_it_waited_fails_with_the_reason(
    cancelled, builder, state
):
    run = restart(cancelled, builder)
    Datanet.objects.update(state=state)
    assert jobs.execute(run.pk, device="cpu", dtype="float32")
    run.refresh_from_db()
    assert run.state == "FAILED"
    assert run.failure_reason.startswith("You may not train on Colours any more.")


@pytest.mark.parametrize(("made", "stays"), [(object(), False), (None, True)])
def test_its_folder_goes_when_the_model_stands(cancelled, monkeypatch, made, stays):
    monkeypatch.setattr(jobs.publishing, "complete", lambda **_: made)
    folder = jobs.folder_of(cancelled.pk)
    jobs.conclude(cancelled, folder, "worker-1", Exit.FINISHED, "")
    assert folder.exists() is stays


def copy_of(record, number):
    """The same words with other looks, which is another content hash."""
    turns = record.payload["messages"]
    return {
        "messages": [
            {"role": "user", "content": turns[0]["content"].upper() + "?" * number},
            {"role": "assistant", "content": "  ".join(turns[1]["content"].split(" "))},
        ]
    }


@pytest.fixture
def copied(version, builder):
    """Another version, of a thief's Datanet with three copies of each of two records."""
    thief = world.person("thief")
    net = world.datanet(thief, slug="copies")
    victims = [entry.record for entry in version.entries.all()[:2]]
    made = world.add_records(net, thief, [copy_of(v, n) for v in victims for n in (1, 2, 3)])
    return publish_version(datanet=net, acting_user=thief, at=NOW), victims, made


def test_of_each_cluster_the_first_is_trained_on_over_all_versions(draft, builder, copied):
    theirs, victims, made = copied
    RunVersion.objects.create(run=draft, version=theirs)
    run = runs.start_run(run=draft, acting_user=builder, at=NOW)
    found = records_in(prepare(run))
    assert len(found) == 20
    assert {str(one.pk) for one in victims} <= found
    run.refresh_from_db()
    left_out = {f["record"]: f["first"] for f in run.findings if f["problem"] == "REPEATED"}
    assert left_out == {str(one.pk): str(victims[n // 3].pk) for n, one in enumerate(made)}
    client = Client()
    client.force_login(builder)
    page = client.get(run.get_absolute_url()).content.decode()
    assert "6 records were left out, since they say nearly what another record" in page
    assert victims[0].get_absolute_url() in page


def test_the_manifest_says_how_many_were_left_out_and_commits_to_which(draft, version):
    pair = [str(entry.record_id) for entry in version.entries.all()[1:3]]
    found = {"number": 0, "record": pair[1], "problem": "REPEATED", "message": "", "first": pair[0]}
    Run.objects.filter(pk=draft.pk).update(findings=[found])
    draft.refresh_from_db()
    training = world.made_model(draft).manifest["manifest"]["training"]
    assert training["repeated"] == 1
    assert training["repeated_sha256"] == canonical.sha256([[pair[1], pair[0]]])


def test_a_record_in_two_chosen_versions_is_trained_on_once(draft, builder, version):
    more = world.add_records(version.datanet, version.datanet.owner, [world.question(99)])
    later = publish_version(datanet=version.datanet, acting_user=version.datanet.owner, at=NOW)
    RunVersion.objects.create(run=draft, version=later)
    folder = prepare(runs.start_run(run=draft, acting_user=builder, at=NOW))
    lines = (folder / "records.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 21
    assert str(more[0].pk) in records_in(folder)


def test_copies_alone_pay_the_contributor_of_the_origin(draft, builder, copied):
    theirs, victims, made = copied
    world.add_records(
        theirs.datanet, theirs.datanet.owner, [world.question(n) for n in range(60, 70)]
    )
    enough = publish_version(datanet=theirs.datanet, acting_user=theirs.datanet.owner, at=NOW)
    draft.run_versions.all().delete()
    RunVersion.objects.create(run=draft, version=enough)
    model = world.made_model(draft)
    jobs.near_duplicates.compare_all()
    groups = {record.record_id: group for record, group in grouped_training_records(model)}
    paid = {group.contributor for pk, group in groups.items() if pk in {one.pk for one in made}}
    assert paid == {victims[0].contributor_id}
    assert {group.datanet for group in groups.values()} == {theirs.datanet_id}
    assert sum(pk in {one.pk for one in made} for pk in groups) == 2
    every = {record.record_id for record, _ in grouped_training_records(model, every=True)}
    # Six copies of two records, the first of which is held out.
    assert len(every) == len(groups) + 3
