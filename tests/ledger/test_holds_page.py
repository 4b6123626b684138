"""Every hold of a person: what for, until when, what was taken and what came back."""

import csv
import io
from datetime import timedelta

import pytest
from django.urls import reverse

from accounts.spreadsheets import cell
from ledger.models import Refund
from ledger.services.holds import Refs, release_hold
from ledger.services.refunds import refund_fee
from tests.ledger.books import NOON, OPEN, capture, hold_for, person

pytestmark = pytest.mark.django_db


@pytest.fixture
def three(payer):
    """One held, one taken in part, one that failed."""
    held, taken, failed = (hold_for(payer, OPEN) for _ in range(3))
    capture(taken, OPEN // 4)
    release_hold(hold=failed, reason='=HYPERLINK("x")', acting_user=None, at=NOON)
    return held, taken, failed


def states(client, query=""):
    page = client.get(reverse("ledger:holds") + query)
    return [hold.state for hold in page.context["page"]]


def test_the_page_chooses_by_state(client, payer, three):
    client.force_login(payer)

    assert sorted(states(client)) == ["CAPTURED", "PENDING", "RELEASED"]
    assert states(client, "?state=RELEASED") == ["RELEASED"]
    assert len(states(client, "?state=rubbish")) == 3


def test_what_came_back_opens_the_entry_that_gave_it_back(client, payer, three):
    client.force_login(payer)
    page = client.get(reverse("ledger:holds")).content.decode()
    for hold in three:
        hold.refresh_from_db()

    assert "0.75" in page
    for hold in three[1:]:
        assert reverse("ledger:entry", args=[hold.closed_by_id]) in page


def test_the_wallet_shows_until_when_what_for_and_what_failed(client, payer, three):
    client.force_login(payer)

    page = client.get(reverse("ledger:wallet"))

    assert [hold.pk for hold in page.context["holds"]] == [three[0].pk]
    assert len(page.context["ended"]) == 2
    assert f"{NOON + timedelta(hours=1):%-d %b %Y %H:%M}" in page.content.decode()


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
def test_the_csv_is_exact_and_runs_no_formula(client, payer, three):
    client.force_login(payer)
    answer = client.get(reverse("ledger:holds_csv"))

    rows = list(csv.DictReader(io.StringIO(b"".join(answer).decode())))

    by_state = {row["state"]: row for row in rows}
    assert by_state["CAPTURED"]["taken_wei"] == str(OPEN // 4)
    assert by_state["CAPTURED"]["returned_open"] == "0.75"
    assert by_state["PENDING"]["returned_wei"] == "0"
    assert by_state["RELEASED"]["reason"] == '\'=HYPERLINK("x")'


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", "\r1", "  =1"])
def test_no_text_begins_as_a_formula(text):
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["plain", "a=b", 5, -5])
def test_what_is_no_formula_stays(value):
    assert cell(value) == str(value)


def test_the_api_lists_ones_own(client, payer, stranger, three):
    assert client.get(reverse("api-holds")).status_code in (401, 403)
    client.force_login(payer)

    listed = client.get(reverse("api-holds"), {"state": "CAPTURED"}).json()["results"]

    assert [(row["captured"], row["returned"]) for row in listed] == [
        (str(OPEN // 4), str(OPEN * 3 // 4))
    ]
    client.force_login(stranger)
    assert client.get(reverse("api-holds")).json()["results"] == []
    assert states(client) == []


@pytest.fixture
def refunded(payer) -> Refund:
    """A fee of a quarter OPEN that staff gave back, with their reason."""
    staff = person("staff")
    staff.is_staff = True
    staff.save(update_fields=["is_staff"])
    hold = hold_for(payer, OPEN)
    capture(hold, OPEN // 4, refs=Refs(completion=hold.cause_id))
    return refund_fee(hold=hold, reason="It answered <i>.", acting_user=staff, at=NOON)


@pytest.mark.parametrize("name", ["ledger:wallet", "ledger:holds"])
def test_a_fee_that_was_given_back_is_shown_with_its_entry_and_why(client, payer, refunded, name):
    client.force_login(payer)
    page = client.get(reverse(name)).content.decode()
    assert reverse("ledger:entry", args=[refunded.entry_id]) in page
    assert "It answered &lt;i&gt;." in page
    assert "REFUNDED" in page


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
def test_a_refund_is_in_the_file_and_the_api_and_no_other_persons(
    client, payer, stranger, three, refunded
):
    client.force_login(payer)
    told = b"".join(client.get(reverse("ledger:holds_csv"))).decode()
    rows = {row["refunded_wei"]: row for row in csv.DictReader(io.StringIO(told))}
    assert sorted(rows) == ["0", str(OPEN // 4)]
    assert rows[str(OPEN // 4)]["refund_entry"] == str(refunded.entry_id)
    assert rows["0"]["refund_entry"] == ""

    listed = client.get(reverse("api-holds")).json()["results"]

    assert sorted((row["refunded"], row["refund_entry"] or "") for row in listed) == [
        *[("0", "")] * 3,
        (str(OPEN // 4), str(refunded.entry_id)),
    ]
    client.force_login(stranger)
    assert "It answered" not in client.get(reverse("ledger:wallet")).content.decode()


def test_a_page_of_holds_reads_their_refunds_at_once(client, payer, django_assert_max_num_queries):
    client.force_login(payer)
    for _ in range(12):
        capture(hold_for(payer, OPEN // 100), OPEN // 1000)
    with django_assert_max_num_queries(12):
        client.get(reverse("ledger:holds"))
