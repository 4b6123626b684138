"""An audit computes randomly drawn gradients again, adds a group up, and tells the log."""

import re
from datetime import timedelta

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from accounts.ids import uuid7
from attribution import auditing, scorers, workers
from attribution.influence.errors import RecordError
from attribution.models import Index, IndexAudit
from attribution.reconciliation import check_tree
from attribution.services import audits, indexes
from attribution.services.log import sequence
from attribution.translog.verify import verify
from modelfactory.models import Model, Run, RunVersion
from tests.attribution.world import NOON

pytestmark = pytest.mark.django_db


@pytest.fixture
def row(indexed) -> Index:
    return Index.objects.get()


def checks(bundle):
    return {check.name: check.holds for check in verify(bundle).checks}


def test_a_true_index_holds_and_the_log_is_told(indexed, row, client):
    sequence(at=NOON)
    made = auditing.audit_index(row.pk)
    assert made.holds
    # Which records share a batch may move a last bit, on some processors: close is no defect.
    assert set(made.body["records"].values()) <= {"exact", "close"}
    assert made.body["group_sum"] in {"exact", "close"}
    assert made.body["drawn_by"] == audits.seed() != "0" * 64
    sequence(at=NOON)
    bundle = client.get(reverse("attribution:index_statement", args=[row.root, "audit"])).json()
    assert bundle["statement"] == made.body
    assert checks(bundle)["receipt"] is checks(bundle)["inclusion"] is True
    bundle["statement"]["holds"] = False
    assert checks(bundle)["receipt"] is False
    assert all(finding.holds for finding in check_tree())
    page = client.get(reverse("attribution:index", args=[row.root])).content.decode()
    assert "Holds" in page
    assert f"the sum is {made.body['group_sum']}" in page


def test_the_root_is_in_the_log_beside_the_models_manifest(indexed, row, client):
    address = reverse("attribution:index_statement", args=[row.root, "root"])
    assert client.get(address).status_code == 503
    sequence(at=NOON)
    bundle = client.get(address).json()
    assert bundle["statement"]["index_root"] == row.root
    assert bundle["statement"]["manifest_sha256"] == indexed.model.manifest_sha256
    assert checks(bundle)["receipt"] is checks(bundle)["inclusion"] is True


def test_what_the_log_was_not_told_is_not_found(client, row):
    for name in ("audit", "other"):
        address = reverse("attribution:index_statement", args=[row.root, name])
        assert client.get(address).status_code == 404
    address = reverse("attribution:index_statement", args=[row.root, "root"])
    assert client.post(address).status_code == 405


def test_a_sum_that_its_records_do_not_give_is_found(row, monkeypatch):
    """The operator adds to one contributor's sum and signs an index that fits it."""
    scorer = scorers.scorer_for(row, row.model)
    crooked = np.array(scorer.index.sums)
    crooked[:, 0] += 10_000
    monkeypatch.setattr(scorer.index, "sums", crooked)
    made = auditing.audit_index(row.pk)
    assert not made.holds
    assert made.body["group_sum"] == "differs"


def test_a_sketch_that_its_record_does_not_give_is_found(row, monkeypatch):
    scorer = scorers.scorer_for(row, row.model)
    monkeypatch.setattr(scorer.index, "codes", 255 - np.array(scorer.index.codes))
    made = auditing.audit_index(row.pk)
    assert not made.holds
    assert set(made.body["records"].values()) == {"differs"}


def test_a_record_that_became_another_is_named(row, monkeypatch):
    real = workers.examples_of

    def changed(model, **options):
        from dataclasses import replace

        return [replace(one, input_ids=[*one.input_ids[:-1], 7]) for one in real(model, **options)]

    monkeypatch.setattr(workers, "examples_of", changed)
    with pytest.raises(RecordError, match="it is not what was indexed"):
        auditing.audit_index(row.pk)


def test_each_index_is_audited_once_a_week(row):
    assert audits.due(at=NOON) == row
    made = auditing.audit_next()
    assert made
    assert audits.due(at=made.at + timedelta(days=6)) is None
    assert audits.due(at=made.at + timedelta(days=7)) == row
    assert auditing.audit_next() is None
    assert IndexAudit.objects.count() == 1


def test_an_index_that_was_replaced_meanwhile_is_told_by_its_own_root(row, monkeypatch):
    real = auditing.audit

    def slow(*arguments):
        Index.objects.filter(pk=row.pk).update(root="ab" * 32)
        return real(*arguments)

    monkeypatch.setattr(auditing, "audit", slow)
    assert auditing.audit_index(row.pk).body["index_root"] == row.root


def test_one_that_cannot_be_audited_keeps_no_other_waiting(row, monkeypatch):
    asked = []

    def audit_index(pk):
        asked.append(pk)
        raise RecordError("record", "it is not what was indexed.")

    other = Index.objects.get(pk=row.pk)
    other.pk, other.model = uuid7(), _another_model(row.model)
    other.save(force_insert=True)
    monkeypatch.setattr(auditing, "audit_index", audit_index)
    assert auditing.audit_next() is None
    assert set(asked) == {row.pk, other.pk}


def test_two_models_with_one_adapter_have_one_index_in_the_log(row, client):
    other = indexes.request_index(model_id=_another_model(row.model).pk, acting_user=None, at=NOON)
    workers.build_index(other.pk)
    other.refresh_from_db()
    assert (other.state, other.root) == ("READY", row.root)
    sequence(at=NOON)
    bundle = client.get(reverse("attribution:index_statement", args=[row.root, "root"])).json()
    assert bundle["statement"]["model"] == str(row.model_id)
    assert checks(bundle)["receipt"] is True


def _another_model(model: Model) -> Model:
    """The same recipe run again: the same adapter to the byte."""
    run = Run.objects.get(pk=model.run_id)
    version = run.run_versions.get().version
    run.pk = uuid7()
    run.save(force_insert=True)
    RunVersion.objects.create(run=run, version=version)
    again = Model.objects.get(pk=model.pk)
    again.pk, again.run, again.slug = uuid7(), run, "again"
    again.save(force_insert=True)
    return again


def test_the_command_says_what_was_found(row, capsys):
    call_command("audit_index", row.model.slug)
    assert re.search(r"sum of the group: (exact|close)$", capsys.readouterr().out, re.MULTILINE)
    with pytest.raises(CommandError, match="no finished index"):
        call_command("audit_index", "nobody")
