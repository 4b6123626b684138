"""An answer without clear influence pays the Datanet's treasury, and says why."""

from dataclasses import replace

import pytest
from django.urls import reverse

from attribution import bodies, workers
from attribution.influence import confidence
from attribution.influence.index import Index
from attribution.translog.verify import verify
from attribution.verification import verify_receipt
from ledger.models import Account
from tests.attribution.world import SPLIT
from tests.ledger.books import balance_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def unclear(indexed, monkeypatch):
    """The receipt of an answer that no group of records shaped more than any text."""
    real = workers.find_evidence

    def none_is_clear(attribution):
        found = real(attribution)
        low = dict.fromkeys(found.confidence.scores, found.confidence.threshold - 1)
        return replace(found, confidence=replace(found.confidence, clear=False, scores=low))

    monkeypatch.setattr(workers, "find_evidence", none_is_clear)
    return indexed.receipt()


def checks(report):
    return {check.name: check.holds for check in report.checks}


def test_without_clear_influence_the_treasury_is_paid(indexed, unclear):
    assert unclear.outcome == "NO_CLEAR_INFLUENCE"
    assert unclear.public["shares"] == {}
    assert unclear.shares.get().kind == "TREASURY"
    paid = SPLIT.amounts(unclear.fee)["contributors"]
    assert balance_of(Account.Kind.TREASURY, indexed.datanet.pk) == paid
    assert balance_of(Account.Kind.EARNINGS, indexed.alice.pk) == 0


@pytest.fixture
def strict(indexed, monkeypatch):
    """An index whose null leaves no answer clear."""
    real = confidence.judge

    def judge(null, *arguments):
        return real(replace(null, threshold=10**9), *arguments)

    monkeypatch.setattr(confidence, "judge", judge)
    return indexed


def test_an_unclear_receipt_verifies_from_the_index_to_the_wei(strict):
    receipt = strict.receipt()
    assert receipt.outcome == "NO_CLEAR_INFLUENCE"
    report = verify_receipt(receipt)
    assert report.holds, report.checks


def test_where_nothing_is_positive_either_the_receipt_verifies(strict, monkeypatch):
    real = Index.score

    def opposed(index, query):
        found = real(index, query)
        return replace(found, groups={name: -abs(one) for name, one in found.groups.items()})

    monkeypatch.setattr(Index, "score", opposed)
    receipt = strict.receipt()
    assert receipt.outcome == "NO_POSITIVE_INFLUENCE"
    assert not receipt.public["confidence"]["clear"]
    report = verify_receipt(receipt)
    assert report.holds, report.checks


def test_a_confidence_that_the_index_does_not_give_is_found(unclear):
    found = checks(verify_receipt(unclear))
    assert found["influences"] is False
    assert found["confidence"] is True


def test_a_receipt_says_how_sure_it_is_and_verifies(indexed, client):
    receipt = indexed.receipt()
    stated = receipt.public["confidence"]
    assert stated["clear"]
    assert max(stated["groups"].values()) > stated["threshold"]
    assert verify_receipt(receipt).holds
    page = client.get(reverse("attribution:receipt", args=[receipt.pk])).content.decode()
    assert "Clear influence" in page
    assert "deviations above what unrelated text" in page


def test_a_receipt_names_the_rule_of_its_index_not_that_of_today(indexed, monkeypatch):
    real = confidence.judge

    def judge(null, *arguments):
        return real(replace(null, version=1, level=12_345), *arguments)

    monkeypatch.setattr(confidence, "judge", judge)
    stated = indexed.receipt().public["confidence"]
    assert (stated["version"], stated["level_ppm"]) == (1, 12_345)


def test_a_receipt_of_before_that_named_the_days_level_still_verifies(indexed, monkeypatch):
    real, part = confidence.judge, bodies.confidence_part

    def judge(null, *arguments):
        return real(replace(null, version=1, level=20_000), *arguments)

    monkeypatch.setattr(confidence, "judge", judge)
    with monkeypatch.context() as then:
        then.setattr(bodies, "confidence_part", lambda found: part(found) | {"level_ppm": 10_000})
        receipt = indexed.receipt()
    assert receipt.public["confidence"]["level_ppm"] == 10_000
    report = verify_receipt(receipt)
    assert report.holds, report.checks


def test_the_offline_verifier_sees_a_verdict_that_does_not_follow(indexed, client):
    receipt = indexed.receipt()
    bundle = client.get(reverse("attribution:proof", args=[receipt.pk])).json()
    assert checks(verify(bundle))["confidence"] is True
    bundle["receipt"]["confidence"]["threshold"] = 10**9
    assert checks(verify(bundle))["confidence"] is False


def test_an_unclear_receipt_says_so_in_words(unclear, client):
    page = client.get(reverse("attribution:receipt", args=[unclear.pk])).content.decode()
    assert "No clear influence." in page
    assert "went to the treasury" in page
