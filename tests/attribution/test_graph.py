"""The public graph: leaderboards, payments and influence over time, on pages and by API."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from attribution import graph
from attribution.models import Receipt
from attribution.services import totals
from datanets.models import Datanet

pytestmark = pytest.mark.django_db
LATER = timezone.now() + timedelta(hours=1)


@pytest.fixture
def paid(indexed) -> Receipt:
    receipt = indexed.receipt()
    assert receipt.amount
    return receipt


def test_each_leaderboard_adds_up_to_what_was_paid(indexed, paid):
    indexed.receipt()
    whole = sum(one.amount for one in Receipt.objects.all())
    for kind in graph.KINDS:
        rows = list(graph.leaders(kind, indexed.stranger, at=LATER))
        assert sum(row["amount"] for row in rows) == whole
        amounts = [row["amount"] for row in rows]
        assert amounts == sorted(amounts, reverse=True)
    assert graph.leaders("models", indexed.stranger, at=LATER)[0]["answers"] == 2


def test_a_period_leaves_out_what_came_before(indexed, paid):
    assert graph.leaders("datanets", indexed.stranger, at=LATER, period="day").exists()
    later = LATER + timedelta(days=2)
    assert not graph.leaders("datanets", indexed.stranger, at=later, period="day").exists()
    assert graph.leaders("datanets", indexed.stranger, at=later, period="week").exists()


@pytest.mark.parametrize("is_added_up", [False, True])
@pytest.mark.parametrize("period", ["all", "month"])
def test_nobody_leads_by_what_they_pay_themselves(client, indexed, paid, period, is_added_up):
    """A contributor, the Datanet's owner and the model's owner each ask once for what is theirs."""
    payers = {"contributors": indexed.alice, "datanets": indexed.owner, "models": indexed.builder}
    for payer in payers.values():
        Receipt.objects.filter(pk=indexed.receipt().pk).update(payer=payer)
    if is_added_up:
        totals.add_up(at=LATER + totals.LAG)

    def rows(kind):
        return list(graph.leaders(kind, indexed.stranger, at=LATER, period=period))

    answers = {row["name"]: row["answers"] for row in rows("contributors")}
    assert answers.pop(indexed.alice.handle) == 3
    assert set(answers.values()) <= {4}
    assert [row["answers"] for row in rows("datanets")] == [3]
    assert [row["answers"] for row in rows("models")] == [3]

    # Each figure is the sum of the lines that it opens.
    for kind in graph.KINDS:
        for row in rows(kind):
            chosen = {kind.removesuffix("s"): row["pk"]}
            told = {"period": period, "payer": "others", **chosen}
            lines = client.get(reverse("api-graph"), told).json()["results"]
            assert sum(int(line["kept"]) for line in lines) == row["amount"]
            lines = client.get(reverse("api-graph"), chosen | {"period": period}).json()["results"]
            assert len({line["receipt_id"] for line in lines}) == 4
    page = client.get(reverse("attribution:graph"), told).content.decode()
    assert "show that too" in page


def test_what_was_given_back_counts_nowhere(indexed, paid):
    from ledger.models import Hold
    from ledger.services.refunds import refund_fee

    hold = Hold.objects.get(cause_id=paid.completion_id)
    refund_fee(hold=hold, reason="Broken answer.", acting_user=indexed.staff, at=LATER)
    assert not list(graph.leaders("contributors", indexed.stranger, at=LATER))
    assert not graph.payments(indexed.stranger, at=LATER).exists()
    assert not graph.timeline(at=LATER, datanet=indexed.datanet.pk).days


def test_a_hidden_datanet_does_not_lead_and_stands_as_an_id(client, indexed, paid):
    Datanet.objects.update(state="DRAFT")
    assert not list(graph.leaders("datanets", indexed.stranger, at=LATER))
    (line, *_) = client.get(reverse("api-graph")).json()["results"]
    assert line["datanet"] is None
    assert line["datanet_id"] == str(indexed.datanet.pk)
    page = client.get(reverse("attribution:graph")).content.decode()
    assert indexed.datanet.get_absolute_url() not in page


def test_the_pages_are_open_and_every_figure_opens_its_entries(client, indexed, paid):
    for kind in graph.KINDS:
        page = client.get(reverse("attribution:leaderboard", args=[kind]))
        assert page.status_code == 200
        assert f"/graph/?{kind.removesuffix('s')}=" in page.content.decode()
    lines = client.get(
        reverse("attribution:graph"), {"contributor": str(paid.shares.first().contributor_id)}
    ).content.decode()
    assert f"/entries/{paid.entry_id}" in lines
    assert paid.get_absolute_url() in lines
    assert client.get("/leaderboards/nobody/").status_code == 404
    assert client.get("/graph/?model=nonsense").status_code == 404
    assert client.post("/graph/").status_code == 405


def test_an_empty_leaderboard_says_what_to_do_next(client, db):
    assert "Ask a model" in client.get("/leaderboards/models/").content.decode()


def test_the_api_chooses_and_refuses_what_it_does_not_understand(client, indexed, paid):
    share = paid.shares.first()
    found = client.get(reverse("api-graph"), {"contributor": str(share.contributor_id)}).json()
    assert [one["receipt_id"] for one in found["results"]] == [str(paid.pk)]
    assert found["results"][0]["kept"] == str(share.kept)
    assert found["results"][0]["entry_id"] == str(paid.entry_id)
    leaders = client.get(reverse("api-leaderboard", args=["datanets"])).json()
    assert leaders["results"] == [
        {
            "id": str(indexed.datanet.pk),
            "name": indexed.datanet.slug,
            "amount": str(paid.amount),
            "answers": 1,
        }
    ]
    assert client.get(reverse("api-graph"), {"model": "x"}).status_code == 400
    assert client.get(reverse("api-graph"), {"period": "x"}).status_code == 400
    assert client.get(reverse("api-leaderboard", args=["x"])).status_code == 404


def test_influence_over_time_stands_on_each_page(client, indexed, paid):
    top = paid.record_influences.first()
    share = paid.shares.filter(contributor__isnull=False).first()
    for kind, pk in [
        ("contributor", share.contributor_id),
        ("datanet", indexed.datanet.pk),
        ("model", indexed.model.pk),
        ("record", top.record_id),
    ]:
        part = client.get(reverse("attribution:over_time", args=[kind, pk])).content.decode()
        assert "<svg" in part
        assert "1 answer in 90 days" in part
        assert ("OPEN" in part) == (kind != "record")
    address = reverse("attribution:over_time", args=["datanet", indexed.datanet.pk])
    assert f'hx-get="{address}"' in client.get(indexed.datanet.get_absolute_url()).content.decode()
    Datanet.objects.update(state="DRAFT")
    assert client.get(address).status_code == 404
    assert client.get(f"/graph/over-time/nothing/{indexed.datanet.pk}/").status_code == 404
