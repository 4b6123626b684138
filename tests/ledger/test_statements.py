"""A statement by month, in UTC: what was there, what came and went, what is there, to the wei."""

import csv
import io
import itertools
from datetime import UTC, date, datetime, timedelta

import pytest
from django.urls import reverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import statements
from ledger.errors import InvalidMonth
from ledger.models import Account
from ledger.months import bounds, month_of, next_month, parse_month
from ledger.services.holds import release_hold
from ledger.services.posting import reverse_entry
from ledger.services.transfers import make_earnings_spendable
from tests.ledger.books import NOON, OPEN, capture, earn, fund, hold_for

pytestmark = pytest.mark.django_db
NOVEMBER, DECEMBER = date(2026, 11, 1), date(2026, 12, 1)
LAST = datetime(2026, 11, 30, 23, 59, 59, 999999, tzinfo=UTC)
FIRST = datetime(2026, 12, 1, tzinfo=UTC)


def of(user, month, at=NOON):
    return statements.statement(user, month, at)


def lines(found, kind=Account.Kind.USER):
    (one,) = [one for one in found.accounts if one.account.kind == kind]
    return one.opening, {line.kind: line.net for line in one.lines}, one.closing


def hold_at(user, amount, at):
    return hold_for(user, amount, at=at, expires_at=at + timedelta(hours=1))


def test_it_tells_opening_kinds_and_closing(payer):
    capture(hold_for(payer, 4 * OPEN), 3 * OPEN)
    capture(hold_at(payer, OPEN, FIRST), OPEN, at=FIRST)

    assert lines(of(payer, NOVEMBER)) == (
        0,
        {"DEPOSIT": 10 * OPEN, "HOLD": -4 * OPEN, "CAPTURE": OPEN},
        7 * OPEN,
    )
    assert lines(of(payer, DECEMBER)) == (7 * OPEN, {"HOLD": -OPEN}, 6 * OPEN)
    assert of(payer, NOVEMBER).closing == of(payer, DECEMBER).opening == 7 * OPEN


def test_the_month_ends_with_its_last_instant_in_utc(payer):
    capture(hold_at(payer, 5, LAST), 5, at=LAST)
    capture(hold_at(payer, 7, FIRST), 7, at=FIRST)

    assert lines(of(payer, NOVEMBER))[2] == 10 * OPEN - 5
    assert lines(of(payer, DECEMBER))[2] == 10 * OPEN - 12


def test_a_reversal_stands_as_its_own_kind(payer):
    entry = capture(hold_for(payer, 100), 100)
    reverse_entry(entry=entry, at=FIRST, acting_user=None)

    assert lines(of(payer, DECEMBER), Account.Kind.HOLD) == (0, {"REVERSAL": 100}, 100)


MOVES = st.lists(
    st.tuples(st.integers(0, 70), st.sampled_from(["fee", "fail", "earn", "spend"])), max_size=8
)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(moves=MOVES)
def test_months_follow_one_another_and_end_at_the_balance(db, moves):
    """Whatever happens in which order, over several months, every sum agrees."""
    from django.db import transaction

    from tests.ledger.books import person

    with transaction.atomic():
        user = person("somebody")
        fund(user, OPEN)
        earn(user, 1_000)
        for number, (days, what) in enumerate(moves):
            at = NOON + timedelta(days=days)
            if what == "earn":
                earn(user, 7, number=number + 1)
            elif what == "spend":
                make_earnings_spendable(
                    user=user, amount=3, key=str(number), acting_user=user, at=at
                )
            else:
                hold = hold_at(user, 11, at)
                if what == "fee":
                    capture(hold, 5, at=at)
                else:
                    release_hold(hold=hold, reason="It failed.", acting_user=None, at=at)
        months = statements.months(user, NOON + timedelta(days=70))[::-1]
        told = [of(user, month) for month in months]
        assert told[0].opening == 0
        for before, after in itertools.pairwise(told):
            assert before.closing == after.opening
        balances = {a.kind: a.balance for a in Account.objects.filter(owner_id=user.pk)}
        for one in told[-1].accounts:
            assert one.closing == balances[one.account.kind]
        assert told[-1].closing == sum(balances.values())
        transaction.set_rollback(True)


def test_the_page_links_to_the_accounts_and_prints(client, payer):
    client.force_login(payer)

    page = client.get(reverse("ledger:statement", args=["2026-11"])).content.decode()

    account = Account.objects.get(kind="USER", owner_id=payer.pk)
    assert reverse("ledger:account", args=[account.pk]) in page
    assert 'media="print"' in page
    listed = client.get(reverse("ledger:statements")).content.decode()
    assert reverse("ledger:statement", args=["2026-11"]) in listed


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
def test_the_file_has_every_entry_with_the_balance_after_it(client, payer):
    client.force_login(payer)
    capture(hold_for(payer, 4 * OPEN), 3 * OPEN)

    answer = client.get(reverse("ledger:statement_csv", args=["2026-11"]))

    rows = list(csv.DictReader(io.StringIO(b"".join(answer).decode())))
    mine = [row for row in rows if row["account"] == "USER"]
    assert [(row["kind"], row["open"], row["balance_open"]) for row in mine] == [
        ("OPENING", "", "0"),
        ("DEPOSIT", "10", "10"),
        ("HOLD", "-4", "6"),
        ("CAPTURE", "1", "7"),
        ("CLOSING", "", "7"),
    ]
    assert mine[-1]["balance_wei"] == str(7 * OPEN)


def test_the_api_tells_the_same(client, payer, stranger):
    assert client.get(reverse("api-statements")).status_code in (401, 403)
    client.force_login(payer)
    capture(hold_for(payer, 4 * OPEN), 3 * OPEN)

    told = client.get(reverse("api-statement", args=["2026-11"])).json()

    assert (told["opening"], told["closing"]) == ("0", str(7 * OPEN))
    (account,) = [one for one in told["accounts"] if one["account_kind"] == "USER"]
    assert sum(int(line["net"]) for line in account["lines"]) == 7 * OPEN
    assert "2026-11" in client.get(reverse("api-statements")).json()
    client.force_login(stranger)
    assert client.get(reverse("api-statements")).json() == []
    assert client.get(reverse("api-statement", args=["2026-11"])).json()["accounts"] == []


@pytest.mark.parametrize("text", ["2026-13", "2026-1", "rubbish", "2026-11-01", "0000-01"])
def test_what_is_no_month_is_told(client, payer, text):
    with pytest.raises(InvalidMonth):
        parse_month(text)
    client.force_login(payer)
    assert client.get(reverse("ledger:statement", args=[text])).status_code == 404
    refused = client.get(reverse("api-statement", args=[text]))
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_month")


def test_months_are_whole_and_follow_one_another():
    assert next_month(DECEMBER) == date(2027, 1, 1)
    assert bounds(NOVEMBER) == (datetime(2026, 11, 1, tzinfo=UTC), FIRST)
    assert month_of(datetime.fromisoformat("2026-12-01T00:30:00+02:00")) == NOVEMBER
