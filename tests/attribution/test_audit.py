"""An audit computes randomly drawn gradients again, adds a group up, and tells the log."""

from datetime import timedelta

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from attribution import auditing, workers
from attribution.influence.errors import RecordError
from attribution.models import Index, IndexAudit
from attribution.reconciliation import check_tree
from attribution.services import audits
from attribution.services.log import sequence
from attribution.translog.verify import verify
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
    assert set(made.body["records"].values()) == {"exact"}
    assert made.body["group_sum"] == "exact"
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
    assert "the sum is exact" in page


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
    scorer = workers.scorer_for(row, row.model)
    crooked = np.array(scorer.index.sums)
    crooked[:, 0] += 10_000
    monkeypatch.setattr(scorer.index, "sums", crooked)
    made = auditing.audit_index(row.pk)
    assert not made.holds
    assert made.body["group_sum"] == "differs"


def test_a_sketch_that_its_record_does_not_give_is_found(row, monkeypatch):
    scorer = workers.scorer_for(row, row.model)
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


def test_the_command_says_what_was_found(row, capsys):
    call_command("audit_index", row.model.slug)
    assert "sum of the group: exact" in capsys.readouterr().out
    with pytest.raises(CommandError, match="no finished index"):
        call_command("audit_index", "nobody")
