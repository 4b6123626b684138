"""The earnings page: true figures, each with the entries behind it, for their owner alone."""

import pytest
from django.urls import reverse

from accounts.ids import uuid7
from ledger.models import Account, Claim
from ledger.services.holds import Refs
from ledger.services.settlement import Credit, settle_suspense
from tests.ledger.books import (
    FIRST,
    NOON,
    OPEN,
    activate,
    balance_of,
    capture,
    earn,
    hold_for,
    link,
    paid,
    publish,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def shares(payer, contributor):
    """Two settled completions: 500 wei about one Datanet and model, 50 about others."""
    made = []
    for fee in (1000, 100):
        datanet, model = uuid7(), uuid7()
        hold = hold_for(payer, fee)
        capture(hold, fee, refs=Refs(model=model, completion=hold.cause_id))
        settle_suspense(
            completion_id=hold.cause_id,
            at=NOON,
            credits=[Credit("contributor", contributor.pk, 10**9, datanet, model)],
        )
        made.append((datanet, model))
    return made


@pytest.fixture
def active(contributor, deployed):
    earn(contributor, 100)
    link(contributor, FIRST)
    distribution = publish()
    activate(distribution)
    return distribution


def test_it_shows_what_is_available_and_where_it_came_from(client, contributor, shares):
    client.force_login(contributor)

    page = client.get(reverse("ledger:earnings"))

    assert page.status_code == 200
    assert page.context["earnings"].available == 550
    groups = page.context["groups"]
    assert [(bar.key, bar.amount, bar.percent) for bar in groups["datanet"]] == [
        (str(shares[0][0]), 500, 100),
        (str(shares[1][0]), 50, 10),
    ]
    assert [bar.amount for bar in groups["model"]] == [500, 50]
    assert [(bar.key, bar.amount) for bar in groups["day"]] == [("2026-11-21", 550)]


@pytest.mark.parametrize(
    ("query", "amounts"),
    [
        ("", [50, 500]),
        ("?datanet={0}", [500]),
        ("?model={1}", [500]),
        ("?day=2026-11-21", [50, 500]),
        ("?day=2026-11-20", []),
        ("?since=2026-11-21&until=2026-11-21", [50, 500]),
        ("?since=2026-11-22", []),
        ("?until=2026-11-20", []),
        ("?until=9999-12-31", [50, 500]),
        ("?completion=none", []),
        ("?datanet=none", []),
        ("?datanet=rubbish&day=x&page=z", [50, 500]),
    ],
)
def test_every_figure_opens_its_entries(client, contributor, shares, query, amounts):
    client.force_login(contributor)

    page = client.get(reverse("ledger:earnings_entries") + query.format(*shares[0]))

    assert [row.posting.amount for row in page.context["rows"]] == amounts
    assert page.context["total"] == sum(amounts)


# Served by ASGI it streams; the test's client is synchronous and Django says so.
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
def test_the_csv_has_every_entry_to_the_wei(client, contributor, shares):
    client.force_login(contributor)

    response = client.get(reverse("ledger:earnings_csv"))

    lines = b"".join(response).decode().splitlines()
    assert lines[0] == (
        "time,entry,kind,wei,open,datanet,model,completion,datanet_name,model_name,role"
    )
    assert {line.split(",")[-1] for line in lines[1:]} == {"records"}
    assert [line.split(",")[3:5] for line in lines[1:]] == [
        ["50", "0.00000000000000005"],
        ["500", "0.0000000000000005"],
    ]


def test_earnings_can_be_made_spendable_once(client, contributor):
    earn(contributor, 3 * OPEN)
    client.force_login(contributor)
    body = {"amount": "1.5", "key": str(uuid7())}

    for _ in range(2):
        assert client.post(reverse("ledger:spend"), body).status_code == 302

    assert balance_of(Account.Kind.USER, contributor.pk) == 15 * 10**17
    assert balance_of(Account.Kind.EARNINGS, contributor.pk) == 15 * 10**17


@pytest.mark.parametrize("amount", ["", "0", "-1", "1e3", "1.0000000000000000001", "4", "9" * 79])
def test_an_amount_that_cannot_be_moved_is_told_and_moves_nothing(client, contributor, amount):
    earn(contributor, 3 * OPEN)
    client.force_login(contributor)

    page = client.post(
        reverse("ledger:spend"), {"amount": amount, "key": str(uuid7())}, follow=True
    )

    assert "notice--bad" in page.content.decode()
    assert balance_of(Account.Kind.EARNINGS, contributor.pk) == 3 * OPEN


def test_without_a_wallet_it_says_what_to_do(client, contributor):
    client.force_login(contributor)

    assert "Link a wallet" in client.get(reverse("ledger:earnings")).content.decode()


def test_a_claim_is_sent_for_the_person(client, contributor, active):
    client.force_login(contributor)
    page = client.get(reverse("ledger:earnings")).content.decode()
    assert "Claim for me, without gas" in page
    assert "Claim with my wallet" in page

    client.post(reverse("ledger:claim", args=[FIRST]))

    claim = Claim.objects.get()
    state = client.get(reverse("ledger:claim_state", args=[claim.pk])).content.decode()
    assert 'data-claim-state="REQUESTED"' in state
    assert "hx-get" in state


def test_a_claim_that_is_paid_is_asked_for_no_more(client, contributor, active):
    claim = paid()
    client.force_login(contributor)

    state = client.get(reverse("ledger:claim_state", args=[claim.pk])).content.decode()

    assert 'data-claim-state="PAID"' in state
    assert "hx-get" not in state


def test_claiming_twice_gets_a_clear_answer(client, contributor, active):
    client.force_login(contributor)
    for _ in range(2):
        page = client.post(reverse("ledger:claim", args=[FIRST]), follow=True)

    assert "A claim for this address is on its way" in page.content.decode()
    assert Claim.objects.count() == 1


def test_a_stranger_claims_and_sees_nothing_of_others(client, stranger, contributor, active):
    claim = paid()
    client.force_login(stranger)

    page = client.post(reverse("ledger:claim", args=[FIRST]), follow=True)
    assert "Link this wallet to your account first" in page.content.decode()
    assert client.get(reverse("ledger:claim_state", args=[claim.pk])).status_code == 404
    assert client.get(reverse("ledger:earnings")).context["earnings"].received == 0
    assert list(client.get(reverse("ledger:earnings_entries")).context["rows"]) == []


OWN_PAGES = [
    ("get", "earnings", []),
    ("get", "earnings_entries", []),
    ("get", "earnings_csv", []),
    ("post", "spend", []),
    ("post", "claim", [FIRST]),
    ("get", "claim_state", [uuid7()]),
    ("get", "wallet", []),
    ("get", "wallet_figures", []),
    ("post", "faucet", []),
    ("get", "statements", []),
    ("get", "statement", ["2026-11"]),
    ("get", "statement_csv", ["2026-11"]),
    ("get", "holds", []),
    ("get", "holds_csv", []),
    ("post", "budget", []),
    ("post", "top_up", []),
    ("get", "intent_state", [uuid7()]),
]


@pytest.mark.parametrize(("method", "name", "args"), OWN_PAGES)
def test_who_is_not_signed_in_is_sent_to_sign_in(client, method, name, args):
    response = getattr(client, method)(reverse(f"ledger:{name}", args=args))

    assert response.status_code == 302
    assert response.url.startswith(reverse("account_login"))


@pytest.mark.parametrize(("method", "name", "args"), OWN_PAGES)
def test_the_wrong_method_is_refused(client, contributor, method, name, args):
    client.force_login(contributor)
    wrong = client.post if method == "get" else client.get

    assert wrong(reverse(f"ledger:{name}", args=args)).status_code == 405
