"""A disputed receipt is held against the exact influence, and both shares are published."""

import itertools
import json
import random
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.management import call_command
from django.db import ProgrammingError, transaction
from django.urls import reverse

from accounts import ids, leases
from accounts.blobs import put_file
from accounts.models import AuditEvent
from attribution import exact_auditing, exact_bodies, scorers, texts, workers
from attribution.influence import exact_job
from attribution.models import Attribution, ExactAudit, LogLeaf, Receipt
from attribution.reconciliation import check_tree
from attribution.services import exact_audits, indexes
from attribution.services.exact_audits import CannotAuditError, request_exact_audit
from attribution.services.log import sequence
from attribution.services.rescorings import CannotRescoreError
from attribution.texts import Texts
from attribution.translog.verify import verify
from datanets.services.moderation import withdraw_record
from datanets.services.versions import publish_version
from ledger.fees import Parent, Terms
from ledger.models import Entry
from modelfactory.models import Model, Run, RunParent, RunVersion
from modelfactory.replays import why_not, write_replay
from modelfactory.training import train
from modelfactory.training.job import Job
from modelfactory.training.prompts import load_tokenizer, render_prompt
from tests.attribution.world import NOON, SPLIT, STARTER, World, payload, queued
from tests.modelfactory.world import NOW, add_records, datanet

pytestmark = pytest.mark.django_db

PROMPT = "What is door number 3?"
SEED = 1
ANSWER = "The door 3 is a door of the house. The window 4 is a window of the house."


@contextmanager
def ids_of(seed):
    """The same ids in each run: they decide what is held out, and in a run this short that decides
    whose records help."""
    chance, ticks = random.Random(seed), itertools.count(NOON.timestamp() * 10**9, 10**6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids, "os", SimpleNamespace(urandom=chance.randbytes))
        patch.setattr(ids, "time", SimpleNamespace(time_ns=lambda: int(next(ticks))))
        yield


@pytest.fixture
def world(db, own_folders, tiny_folders, tmp_path):
    """A model that its own run has really trained."""
    scorers.clear()
    with ids_of(seed=SEED):
        made = World(tiny_folders)
    recipe = {"cutoff": 64, "rank": 2, "batch_size": 4, "epochs": 2, "learning_rate": 0.02}
    Run.objects.update(recipe=recipe, device="cpu", dtype="float32")
    made.model.run.refresh_from_db()
    made.folder = tmp_path / "runs"
    made.model = trained(made.model.run, made.folder / "first", made.model)
    assert made.build_index().state == "READY"
    return made


def trained(run: Run, folder: Path, model: Model | None = None) -> Model:
    """The run's model, really trained by the run's own job; where none is given a new one."""
    folder.mkdir(parents=True)
    write_replay(run, folder)
    training = train.prepare(folder, Job.read(folder))
    for passes in (passes for epoch in training.schedule for passes in epoch):
        train.take_step(training, passes)
        training.progress.step += 1
    train.save_adapter(training.model, folder / "adapter")
    Run.objects.filter(pk=run.pk).update(
        held_out=json.loads((folder / "split.json").read_text())["held_out"]
    )
    blob = put_file(folder / "adapter" / "adapter_model.safetensors", "application/octet-stream")
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    made = model or Model(
        slug=run.name, name=run.name, run=run, owner=run.builder, base_model=run.base_model,
        state="PUBLISHED", manifest={}, manifest_sha256="2" * 64,
    )  # fmt: skip
    made.adapter_sha256, made.adapter_bytes, made.adapter_config = blob.sha256, blob.size, config
    made.save()
    made.refresh_from_db()
    return made


@pytest.fixture
def receipt(world, monkeypatch):
    tokenizer = load_tokenizer(STARTER)
    prompt_ids = render_prompt([{"role": "user", "content": PROMPT}], tokenizer)
    found = Texts(PROMPT, ANSWER, prompt_ids, tokenizer.encode(ANSWER))
    monkeypatch.setattr(texts, "_sources", [lambda completion_id: found])
    return world.receipt(answer=ANSWER)


class Ended:
    """The child, run to its end where it was started."""

    def __init__(self, folder):
        self.returncode = exact_job.run(folder)

    def poll(self):
        return self.returncode


@pytest.fixture
def here(monkeypatch):
    """The replay in this process; `test_a_process_of_its_own_ends_alike` has the other."""
    monkeypatch.setattr(exact_job, "Stop", lambda: False)
    monkeypatch.setattr(exact_auditing, "start_child", Ended)


def audited(receipt, user):
    row = request_exact_audit(receipt=receipt, acting_user=user, at=NOON)
    exact_auditing.audit_exactly(row.pk)
    sequence(at=NOON)
    row.refresh_from_db()
    return row


def test_both_shares_are_published_and_no_money_moves(world, receipt, here, client):
    before, entries = dict(receipt.public), Entry.objects.count()
    row = audited(receipt, world.alice)
    assert row.failure_reason == ""
    told = row.public
    assert (row.state, row.asked_as, told["steps"]) == ("DONE", "contributor", 12)
    assert told["receipt"] == {"id": str(receipt.pk), "sha256": receipt.body_sha256}
    assert (row.done, row.total) == (36, 36)
    assert (told["records"], told["records_left_out"]) == (22, 0)  # two of 24 were held out
    assert sum(told["exact_shares"].values()) == sum(told["index_shares"].values()) == 10**9
    assert sum(told["difference"].values()) == 0
    assert set(told["influence"]) == set(before["influence"]["groups"])
    assert told["correlation_ppm"] is None  # of two groups it says nothing
    assert told["elsewhere_ppb"] == told["largest_difference_ppb"]  # as with any two
    receipt.refresh_from_db()
    assert receipt.public == before
    assert Entry.objects.count() == entries
    assert all(finding.holds for finding in check_tree())
    verbs = set(AuditEvent.objects.filter(target_id=row.pk).values_list("verb", flat=True))
    assert verbs == {"attribution.exact_audit_requested", "attribution.receipt_audited_exactly"}

    # Everybody reads it, with a proof that the offline verifier checks.
    page = client.get(row.get_absolute_url()).content.decode()
    assert world.alice.handle in page
    assert "Largest difference" in page
    bundle = client.get(reverse("attribution:exact_proof", args=[row.pk])).json()
    assert all(check.holds is not False for check in verify(bundle).checks)
    names = [check.name for check in verify(bundle).checks if check.holds]
    assert {"receipt", "inclusion", "checkpoint", "first receipt", "audit"} <= set(names)
    assert client.get(reverse("api-exact-audit-proof", args=[row.pk])).json() == bundle
    changes = {
        "receipt": lambda b: b["statement"].update(steps=11),
        "first receipt": lambda b: b["named"]["receipt"].update(at="2026-01-01T00:00:00.000Z"),
        "audit": lambda b: b["statement"].update(largest_difference_ppb=1),
    }
    for name, change in changes.items():
        changed = json.loads(json.dumps(bundle))
        change(changed)
        assert name in [check.name for check in verify(changed).checks if check.holds is False]
    for lost in ({"named": None}, {"named": {}}, {"statement": {"schema": told["schema"]}}):
        assert not verify(bundle | lost).holds
    out = StringIO()
    call_command("verify", str(row.pk), stdout=out)
    assert f"The audit {row.pk} holds." in out.getvalue()
    assert row.get_absolute_url() in client.get(receipt.get_absolute_url()).content.decode()
    found = client.get(reverse("search") + f"?q={row.pk}", follow=True)
    assert found.request["PATH_INFO"] == row.get_absolute_url()

    # Once is enough, and what was written stays.
    assert request_exact_audit(receipt=receipt, acting_user=world.payer, at=NOON) == row
    exact_auditing.audit_exactly(row.pk)  # its message comes twice
    assert LogLeaf.objects.filter(receipt_id=row.pk).count() == 1
    for change in ({"public": {}}, {"state": "QUEUED"}):
        with pytest.raises(ProgrammingError), transaction.atomic():
            ExactAudit.objects.filter(pk=row.pk).update(**change)
    with pytest.raises(ProgrammingError), transaction.atomic():
        ExactAudit.objects.filter(pk=row.pk).delete()


def test_another_adapter_than_the_published_one_is_refused_and_tried_again(world, receipt, here):
    true = Run.objects.get().recipe
    Run.objects.update(recipe=true | {"seed": 5})
    row = audited(receipt, world.payer)
    assert row.state == "FAILED"
    assert "not those of then" in row.failure_reason
    assert row.public == {}
    Run.objects.update(recipe=true)
    receipt.refresh_from_db()
    assert audited(receipt, world.payer) == row
    row.refresh_from_db()
    assert row.state == "DONE"


def test_what_cannot_be_replayed_says_so_and_strangers_are_refused(world, receipt):
    for who in (world.stranger, world.builder):
        with pytest.raises(PermissionDenied):
            request_exact_audit(receipt=receipt, acting_user=who, at=NOON)

    def refused(words, receipt=receipt):
        with pytest.raises(CannotRescoreError, match=words):
            request_exact_audit(receipt=receipt, acting_user=world.payer, at=NOON)

    refused("base model", world.receipt(base_only=True))
    first = request_exact_audit(receipt=receipt, acting_user=world.payer, at=NOON)
    refused("one at a time", world.receipt(answer=ANSWER))
    exact_audits.fail(first.pk, "Gone.", NOON)
    record = world.records[3]
    withdraw_record(record=record, acting_user=record.contributor, at=NOON)
    refused("withdrawn")
    assert issubclass(CannotAuditError, CannotRescoreError)


def test_it_survives_a_worker_that_died_and_waits_its_turn(world, receipt, here):
    row = request_exact_audit(receipt=receipt, acting_user=world.payer, at=NOON)
    with exact_auditing._replaying:
        exact_auditing.audit_exactly(row.pk)
    row.refresh_from_db()
    assert (row.state, len(queued("audit_exactly"))) == ("QUEUED", 2)
    assert exact_audits.claim(audit_id=row.pk, owner="dead", at=NOON)
    leases.sweep(at=NOON + settings.WORK_LEASE + timedelta(seconds=1))
    row.refresh_from_db()
    assert (row.state, row.lease_owner) == ("QUEUED", "")
    assert not exact_audits.note_progress(audit_id=row.pk, owner="dead", done=1, total=2, at=NOON)
    assert audited(receipt, world.payer).state == "DONE"


def test_a_party_presses_a_button_and_watches(client, world, receipt):
    client.force_login(world.bob)
    assert "Audit it exactly" in client.get(receipt.get_absolute_url()).content.decode()
    ask = reverse("attribution:audit_exactly", args=[receipt.pk])
    answer = client.post(ask)
    row = ExactAudit.objects.get()
    assert answer.url == row.get_absolute_url()
    exact_audits.claim(audit_id=row.pk, owner="me", at=NOON)
    exact_audits.note_progress(audit_id=row.pk, owner="me", done=1300, total=3600, at=NOON)
    page = client.get(answer.url).content.decode()
    assert "1,300 of 3,600 steps" in page
    assert 'max="3600" value="1300"' in page
    exact_audits.fail(row.pk, "The disk is full.", NOON)
    page = client.get(answer.url).content.decode()
    assert "The disk is full." in page
    assert "Try again" in page
    assert client.post(ask).url == row.get_absolute_url()

    names = ("exact", "exact_proof")
    for user in (None, world.stranger):
        client.logout()
        if user:
            client.force_login(user)
        found = [client.get(reverse(f"attribution:{n}", args=[row.pk])).status_code for n in names]
        assert found == [404, 404]
        assert client.post(ask).status_code == (404 if user else 302)
        assert client.get(reverse("api-exact-audit", args=[row.pk])).status_code == 404
        asked = client.post(reverse("api-receipt-exact-audits", args=[receipt.pk])).status_code
        assert asked == (404 if user else 403)
    assert client.get(ask).status_code == 405


def test_the_api_asks_and_tells(client, world, receipt, here):
    client.force_login(world.payer)
    listing = reverse("api-receipt-exact-audits", args=[receipt.pk])
    made = client.post(listing).json()
    assert (made["state"], made["asked_as"], made["steps"]) == ("QUEUED", "payer", 0)
    exact_auditing.audit_exactly(made["id"])
    sequence(at=NOON)
    assert [one["id"] for one in client.get(listing).json()] == [made["id"]]
    client.logout()
    told = client.get(reverse("api-exact-audit", args=[made["id"]])).json()
    assert told["public"]["moves_money"] is False
    proof = client.get(reverse("api-exact-audit-proof", args=[made["id"]])).json()
    assert proof["statement"] == told["public"]
    client.force_login(world.payer)
    base = world.receipt(base_only=True)
    refused = client.post(reverse("api-receipt-exact-audits", args=[base.pk]))
    assert (refused.status_code, "base model" in refused.content.decode()) == (400, True)


WEIGHTS_PPM = (700_000, -300_000)


@pytest.fixture
def blend(world, receipt):
    """A receipt of one answer that the model and its twin gave together."""
    twin = world.another_model()
    index = indexes.request_index(model_id=twin.pk, acting_user=None, at=NOON)
    workers.build_index(index.pk)
    parents = [
        {"model": str(model.pk), "name": model.slug, "weight_ppm": weight,
         "share_ppb": abs(weight) * 1000}
        for model, weight in zip((world.model, twin), WEIGHTS_PPM, strict=True)
    ]  # fmt: skip
    terms = Terms(
        SPLIT,
        parents=tuple(
            Parent(UUID(one["model"]), one["share_ppb"], world.builder.pk) for one in parents
        ),
    )
    asked = world.ask(ANSWER, terms=terms)
    merge = {"method": "linear", "density_ppm": None, "seed": None, "parents": parents}
    Attribution.objects.filter(pk=asked.pk).update(model=None, merge=merge)
    workers.attribute(asked.pk)
    return Receipt.objects.get(attribution=asked)


def test_each_of_several_models_is_audited_as_if_it_had_answered_alone(
    world, receipt, blend, here, client
):
    alone = audited(receipt, world.payer).public
    row = audited(blend, world.payer)
    assert (row.state, row.failure_reason) == ("DONE", "")
    told = row.public
    assert (told["schema"], told["model"]) == ("openledger-exact-audit-merge/1", None)
    parents = told["merge"]["parents"]
    assert [one["share_ppb"] for one in parents] == [700_000_000, 300_000_000]
    assert [one["model"] for one in parents] == [
        one["model"] for one in blend.public["merge"]["parents"]
    ]
    for one in parents:
        same = {name: alone[name] for name in ("steps", "influence", "exact_shares", "difference")}
        assert {name: one[name] for name in same} == same
    assert (row.done, row.total) == (72, 72)
    event = AuditEvent.objects.get(target_id=row.pk, verb="attribution.receipt_audited_exactly")
    assert event.data["largest_difference_ppb"] == alone["largest_difference_ppb"]
    bundle = client.get(reverse("attribution:exact_proof", args=[row.pk])).json()
    assert all(check.holds is not False for check in verify(bundle).checks)
    client.force_login(world.builder)
    page = client.get(row.get_absolute_url()).content.decode()
    assert "70 % of what models earn" in page
    assert "30 % of what models earn" in page
    assert page.count(world.alice.handle) >= 2
    client.force_login(world.payer)
    assert row.get_absolute_url() in client.get(blend.get_absolute_url()).content.decode()


def test_one_of_several_that_cannot_be_replayed_says_why_and_the_other_is_audited(
    world, blend, here, client
):
    twin = Run.objects.exclude(pk=world.model.run_id)
    true = twin.get().recipe
    twin.update(recipe=true | {"seed": 5})
    row = audited(blend, world.payer)
    first, second = row.public["merge"]["parents"]
    assert first["steps"] == 12
    assert "not those of then" in second["not_replayed"]
    page = client.get(row.get_absolute_url()).content.decode()
    assert "Its training was not run once more" in page
    assert "Largest difference" in page


def test_where_none_of_several_can_be_replayed_it_fails(world, blend, here):
    for run in Run.objects.all():
        Run.objects.filter(pk=run.pk).update(recipe=run.recipe | {"seed": 5})
    row = audited(blend, world.payer)
    assert (row.state, row.public) == ("FAILED", {})
    assert "not those of then" in row.failure_reason


def test_a_model_that_was_trained_further_is_followed_into_the_first(world, receipt, here):
    """The first model's records are paid by the second's receipt, and replayed with it."""
    run = Run.objects.create(
        builder=world.builder, name="further", state="SUCCEEDED", base_model=world.base,
        recipe=world.model.run.recipe, device="cpu", dtype="float32",
    )  # fmt: skip
    RunParent.objects.create(run=run, model=world.model)
    house = datanet(world.owner, slug="second")
    add_records(house, world.bob, [payload("gate", n) for n in range(8)])
    version = publish_version(datanet=house, acting_user=world.owner, at=NOW)
    RunVersion.objects.create(run=run, version=version)
    further = trained(run, world.folder / "further")
    index = indexes.request_index(model_id=further.pk, acting_user=None, at=NOON)
    workers.build_index(index.pk)
    asked = world.ask(ANSWER, model=further)
    workers.attribute(asked.pk)
    row = audited(Receipt.objects.get(attribution=asked), world.payer)
    assert (row.state, row.failure_reason) == ("DONE", "")
    assert row.public["steps"] == 12 + 4
    datanets = {name.split("|")[1] for name in row.public["influence"]}
    assert datanets == {str(world.datanet.pk), str(house.pk)}
    assert all(value != "0" for value in row.public["influence"].values())

    # One that cannot be replayed hinders all that was made from it.
    record = world.records[3]
    withdraw_record(record=record, acting_user=record.contributor, at=NOON)
    assert why_not(run).startswith("Of a model that it was made from: Records were withdrawn")


def test_a_process_of_its_own_ends_alike(world, receipt):
    row = audited(receipt, world.staff)
    assert (row.state, row.failure_reason) == ("DONE", "")
    assert row.public["steps"] == 12


def test_correlation_is_that_of_the_whole_numbers():
    big = 10**30
    assert exact_bodies.correlation_ppm([big, 2 * big, 3 * big], [1, 2, 3]) == 1_000_000
    assert exact_bodies.correlation_ppm([1, 2, 3], [3, 2, 1]) == -1_000_000
    assert exact_bodies.correlation_ppm([1, 2, 4, 3], [1, 3, 2, 4]) == 400_000
    assert exact_bodies.correlation_ppm([5, 5, 5], [1, 2, 3]) is None
    assert exact_bodies.correlation_ppm([1, 2], [1, 2]) is None
