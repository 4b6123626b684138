"""How a person is paid: what they were shown is the most they pay, and nothing without a choice."""

import pytest
from django.urls import reverse

from accounts.models import AuditEvent
from ledger.errors import InsufficientFunds, LimitReached
from ledger.models import Account, Claim, Entry, PayoutChoice, RelayReserve, Withdrawal
from ledger.reconciliation import check_ledger
from ledger.services import autoclaims, pushes, relays
from ledger.services.claims import on_intent_failed, request_relayed_claim
from tests.ledger.books import (
    FIRST,
    NOON,
    OPEN,
    SECOND,
    activate,
    balance_of,
    earn,
    fund,
    link,
    paid,
    person,
    publish,
)

pytestmark = pytest.mark.django_db
Claims = PayoutChoice.Claims
State = RelayReserve.State
FEE = relays.RELAY_GAS * 10**6
PAGE, API = "ledger:payout_choices", "api-payout-choices"


@pytest.fixture
def priced(settings, deployed):
    settings.RELAY_GAS_PRICE_WEI = 10**6


@pytest.fixture
def earner(contributor, priced):
    link(contributor, FIRST)
    return contributor


def choose(user, claims=Claims.ASK, push=False, shown_fee=FEE):
    return relays.choose_payouts(
        user=user, claims=claims, push=push, shown_fee=shown_fee, acting_user=user, at=NOON
    )


def books_hold():
    return [finding for finding in check_ledger() if not finding.holds] == []


# ------------------------------------------------------------------ the fee


def test_without_a_choice_nothing_is_set_aside(earner):
    earn(earner, OPEN)

    assert publish().amount == OPEN
    assert not RelayReserve.objects.exists()


def test_the_fee_that_was_shown_is_set_aside_before_the_epoch(earner):
    choose(earner)
    earn(earner, OPEN)

    distribution = publish()

    reserve = RelayReserve.objects.get()
    assert (reserve.amount, reserve.state, reserve.distribution) == (
        FEE,
        State.RESERVED,
        distribution,
    )
    assert (distribution.amount, distribution.relay_fee) == (OPEN - FEE, FEE)
    assert balance_of(Account.Kind.RELAY) == FEE
    assert books_hold()


def test_a_fee_that_has_risen_above_what_was_shown_is_not_set_aside(earner, settings, client):
    choose(earner)
    settings.RELAY_GAS_PRICE_WEI = 10**6 + 1
    earn(earner, OPEN)

    assert publish().amount == OPEN
    client.force_login(earner)
    page = client.get(reverse(PAGE)).content.decode()
    assert "Nothing is set aside until you choose again" in page


def test_what_is_worth_less_than_twice_the_fee_pays_none(earner):
    choose(earner)
    earn(earner, 2 * FEE - 1)

    assert publish().amount == 2 * FEE - 1


def test_one_fee_is_set_aside_however_many_epochs_pass(earner):
    choose(earner)
    for number in range(3):
        earn(earner, OPEN, number)
        publish()

    assert RelayReserve.objects.count() == 1


def test_who_chooses_against_it_has_the_fee_back_at_once(earner):
    choose(earner)
    earn(earner, OPEN)
    publish()

    choose(earner, Claims.OWN)

    reserve = RelayReserve.objects.get()
    assert (reserve.state, reserve.closed_by.kind) == (State.RETURNED, Entry.Kind.RELAY_BACK)
    assert balance_of(Account.Kind.EARNINGS, earner.pk) == FEE
    assert balance_of(Account.Kind.RELAY) == 0
    assert books_hold()


def test_a_wallet_that_claims_first_has_the_fee_back(earner):
    choose(earner)
    earn(earner, OPEN)
    activate(publish())

    paid(OPEN - FEE, OPEN - FEE)

    assert RelayReserve.objects.get().state == State.RETURNED
    assert balance_of(Account.Kind.EARNINGS, earner.pk) == FEE


def test_a_relay_that_fails_keeps_the_fee_for_the_next_try(earner):
    choose(earner)
    earn(earner, OPEN)
    activate(publish())
    claim = request_relayed_claim(address=FIRST, acting_user=earner, at=NOON)

    on_intent_failed(intent_id=claim.intent_id, reason="Out of funds.", at=NOON)

    assert RelayReserve.objects.get().state == State.RESERVED


def test_a_fee_is_not_taken_at_a_request_where_it_is_higher_than_shown(earner):
    earn(earner, OPEN)
    activate(publish())
    fund(earner, OPEN, 7)

    with pytest.raises(LimitReached, match="more than the 0 OPEN that you were shown"):
        request_relayed_claim(address=FIRST, acting_user=earner, at=NOON, shown_fee=0)

    assert not RelayReserve.objects.exists()
    request_relayed_claim(address=FIRST, acting_user=earner, at=NOON, shown_fee=FEE)
    assert RelayReserve.objects.get().source.kind == Account.Kind.USER


def test_who_has_nothing_to_pay_it_from_is_told_what_to_do(earner):
    earn(earner, OPEN)
    activate(publish())

    with pytest.raises(InsufficientFunds, match="Claim with your own wallet"):
        request_relayed_claim(address=FIRST, acting_user=earner, at=NOON, shown_fee=FEE)
    assert not Claim.objects.exists()


# ------------------------------------------------------------------ claims for those who asked


def test_who_asked_for_it_is_claimed_for_once_and_nobody_else_is(earner, builder):
    choose(earner, Claims.AUTO)
    link(builder, SECOND)
    earn(earner, OPEN)
    earn(builder, OPEN)
    activate(publish())

    assert autoclaims.claim_for_all(at=NOON) == 1
    assert autoclaims.claim_for_all(at=NOON) == 0

    claim = Claim.objects.get()
    assert (claim.payee.address, claim.amount) == (FIRST, OPEN - FEE)
    assert AuditEvent.objects.filter(verb="ledger.claim_requested").count() == 1


def test_without_a_fee_set_aside_nothing_is_claimed(earner):
    earn(earner, OPEN)
    activate(publish())
    choose(earner, Claims.AUTO)

    assert autoclaims.claim_for_all(at=NOON) == 0


def test_one_that_failed_waits_until_there_is_more(earner, settings):
    settings.RELAY_GAS_PRICE_WEI = 0
    choose(earner, Claims.AUTO, shown_fee=0)
    earn(earner, OPEN)
    activate(publish())
    autoclaims.claim_for_all(at=NOON)
    on_intent_failed(intent_id=Claim.objects.get().intent_id, reason="Out of funds.", at=NOON)

    assert autoclaims.claim_for_all(at=NOON) == 0
    earn(earner, OPEN, 1)
    activate(publish())
    assert autoclaims.claim_for_all(at=NOON) == 1


# ------------------------------------------------------------------ pushes


def test_small_earnings_of_who_asked_for_it_go_to_the_wallet_and_into_no_epoch(earner, builder):
    choose(earner, Claims.OWN, push=True)
    link(builder, SECOND)
    for one in (earner, builder):
        earn(one, 10**15)

    assert pushes.push_small_earnings(at=NOON) == 1
    assert pushes.push_small_earnings(at=NOON) == 0

    pushed = Withdrawal.objects.get()
    assert (pushed.user, pushed.address, pushed.amount) == (earner, FIRST, 10**15)
    assert publish().amount == 10**15
    assert AuditEvent.objects.filter(verb="ledger.earnings_pushed").count() == 1
    assert books_hold()


@pytest.mark.parametrize("amount", [10**12 - 1, OPEN // 100])
def test_dust_and_what_is_not_small_are_not_pushed(earner, amount):
    choose(earner, Claims.OWN, push=True)
    earn(earner, amount)

    assert pushes.push_small_earnings(at=NOON) == 0
    assert balance_of(Account.Kind.EARNINGS, earner.pk) == amount


def test_nobody_without_a_wallet_or_a_chain_is_pushed(contributor, settings, priced):
    choose(contributor, Claims.OWN, push=True)
    earn(contributor, 10**15)
    assert pushes.push_small_earnings(at=NOON) == 0

    link(contributor, FIRST)
    settings.CHAIN_ENABLED = False
    assert pushes.push_small_earnings(at=NOON) == 0


def test_pushes_are_read_a_batch_at_a_time(earner, monkeypatch):
    monkeypatch.setattr(pushes, "AT_ONCE", 2)
    for number in range(5):
        one = person(f"small-{number}")
        link(one, f"0x{number + 1:040x}")
        choose(one, Claims.OWN, push=True)
        earn(one, 10**15)

    assert pushes.push_small_earnings(at=NOON) == 5


# ------------------------------------------------------------------ page and API


def test_the_page_shows_the_fee_saves_the_choice_and_lists_what_was_set_aside(client, earner):
    client.force_login(earner)
    page = client.get(reverse(PAGE))
    assert "0.00000013 OPEN" in page.content.decode()
    body = {"claims": "AUTO", "push": "on", "shown_fee": page.context["choices"].relay_fee}

    saved = client.post(reverse(PAGE), body, follow=True)

    assert "we claim for you" in saved.content.decode()
    choice = PayoutChoice.objects.get(user=earner)
    assert (choice.claims, choice.push, choice.maximum_fee) == ("AUTO", True, FEE)
    assert AuditEvent.objects.get(verb="ledger.payouts_chosen").data["maximum_fee"] == str(FEE)
    earn(earner, OPEN)
    publish()
    entry = RelayReserve.objects.get().entry_id
    assert reverse("ledger:entry", args=[entry]) in client.get(reverse(PAGE)).content.decode()


@pytest.mark.parametrize("body", [{}, {"claims": "ALL", "shown_fee": "1"}, {"claims": "ASK"}])
def test_the_page_refuses_what_is_no_choice(client, earner, body):
    client.force_login(earner)

    client.post(reverse(PAGE), body)

    assert not PayoutChoice.objects.exists()


def test_a_choice_of_a_lower_fee_than_there_is_now_is_refused(client, earner):
    client.force_login(earner)

    page = client.post(reverse(PAGE), {"claims": "ASK", "shown_fee": FEE - 1}, follow=True)

    assert "Look at the fee, then choose again" in page.content.decode()
    assert not PayoutChoice.objects.exists()


def test_the_api_shows_and_saves_the_choice(client, earner):
    client.force_login(earner)
    assert client.get(reverse(API)).json() == {
        "claims": "OWN", "push": False, "maximum_fee": "0", "relay_fee": str(FEE),
        "relay_gas": relays.RELAY_GAS, "push_minimum": str(10**12), "push_below": str(OPEN // 100),
    }  # fmt: skip
    body = {"claims": "ASK", "push": False, "maximum_fee": str(FEE)}

    saved = client.put(reverse(API), body, content_type="application/json")

    assert (saved.status_code, saved.json()["maximum_fee"]) == (200, str(FEE))
    low = client.put(reverse(API), body | {"maximum_fee": "1"}, content_type="application/json")
    assert (low.status_code, low.json()["code"]) == (400, "limit_reached")
    bad = client.put(reverse(API), body | {"maximum_fee": 1.5}, content_type="application/json")
    assert bad.status_code == 400
    assert PayoutChoice.objects.get().maximum_fee == FEE


def test_a_stranger_chooses_for_nobody(client, earner):
    assert client.get(reverse(PAGE)).status_code == 302
    assert client.post(reverse(PAGE), {"claims": "OWN", "shown_fee": 0}).status_code == 302
    assert client.get(reverse(API)).status_code in (401, 403)
    assert client.put(reverse(API), {}, content_type="application/json").status_code in (401, 403)
    client.force_login(earner)
    assert client.delete(reverse(PAGE)).status_code == 405
    assert client.delete(reverse(API)).status_code == 405
    assert not PayoutChoice.objects.exists()


def test_the_button_for_a_sent_claim_names_its_fee(client, earner):
    earn(earner, OPEN)
    activate(publish())
    fund(earner, OPEN, 7)
    client.force_login(earner)
    page = client.get(reverse("ledger:earnings")).content.decode()
    assert "Sending it for you costs 0.00000013 OPEN" in page

    client.post(reverse("ledger:claim", args=[FIRST]), {"shown_fee": FEE - 1})
    assert not Claim.objects.exists()
    client.post(reverse("ledger:claim", args=[FIRST]), {"shown_fee": FEE})
    assert Claim.objects.get().state == Claim.State.REQUESTED
