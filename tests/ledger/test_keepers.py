"""Platform, treasuries and lost deposits have a way out, and only their keepers open it."""

import pytest
from django.core.exceptions import PermissionDenied
from django.test import Client

from accounts.ids import uuid7
from accounts.models import AuditEvent, Notification
from ledger.errors import (
    IdempotencyConflict,
    InsufficientFunds,
    InvalidAmount,
    InvalidEntry,
    ReasonMissing,
)
from ledger.models import Account, Deposit, Entry, Refund
from ledger.reconciliation import check_ledger
from ledger.services.deposits import credit_deposit, undo_deposit
from ledger.services.holds import Refs
from ledger.services.keepers import assign_deposit, pay_from_platform, pay_from_treasury
from ledger.services.opening import account_for
from ledger.services.posting import Leg, post_entry
from tests.ledger.books import NOON, OPEN, balance_of, capture, fund, hold_for, person

pytestmark = pytest.mark.django_db
Kind = Account.Kind


@pytest.fixture
def staff():
    found = person("staff")
    found.is_staff = True
    found.save()
    return found


@pytest.fixture
def ada():
    return person("ada")


@pytest.fixture
def fees():
    """32 fees of 10 OPEN each, whose platform parts lie in several rows; the last of the holds."""
    payer = person("payer")
    fund(payer, 1_000 * OPEN)
    holds = [hold_for(payer, 10 * OPEN) for _ in range(32)]
    for hold in holds:
        capture(hold, 10 * OPEN, refs=Refs(model=uuid7(), completion=hold.cause_id))
    assert Account.objects.filter(kind=Kind.PLATFORM, balance__gt=0).count() > 3
    return holds[-1]


def pay(staff, ada, **changes):
    values = {"to": ada, "amount": 60 * OPEN, "reason": "Rent.", "key": "k", "acting_user": staff}
    return pay_from_platform(**values | {"at": NOON} | changes)


def lost_deposit(amount=5, tx="0xAA"):
    place = {"chain_id": 1, "tx_hash": tx, "log_index": 0, "at": NOON}
    credit_deposit(account_id=uuid7(), amount=amount, **place)
    return Deposit.objects.get(tx_hash=tx.lower()), place


def wrong():
    return [finding.name for finding in check_ledger() if not finding.holds]


def browser(user=None):
    client = Client()
    if user is not None:
        client.force_login(user)
    return client


def test_staff_pay_out_what_lies_in_many_rows_of_the_platform(fees, staff, ada):
    before = balance_of(Kind.PLATFORM)
    entry = pay(staff, ada)
    assert balance_of(Kind.PLATFORM) == before - 60 * OPEN
    assert balance_of(Kind.USER, ada.pk) == 60 * OPEN
    assert pay(staff, ada) == entry
    assert balance_of(Kind.USER, ada.pk) == 60 * OPEN
    event = AuditEvent.objects.get(verb="ledger.paid_out")
    assert (event.actor, event.data["reason"], event.data["to"]) == (staff, "Rent.", str(ada.pk))
    assert Notification.objects.get(user=ada).kind == "ledger.paid_out"
    assert wrong() == []


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"amount": 0}, InvalidAmount),
        ({"amount": -1}, InvalidAmount),
        ({"amount": 1.5}, InvalidAmount),
        ({"reason": " "}, ReasonMissing),
        ({"amount": 10**6 * OPEN}, InsufficientFunds),
    ],
)
def test_what_cannot_be_paid_out_is_refused(fees, staff, ada, changes, error):
    with pytest.raises(error):
        pay(staff, ada, **changes)
    assert not Entry.objects.filter(kind=Entry.Kind.PAID_OUT).exists()


def test_a_key_pays_one_amount_to_one_person(fees, staff, ada):
    pay(staff, ada)
    for changes in ({"amount": OPEN}, {"to": person("bob")}):
        with pytest.raises(IdempotencyConflict):
            pay(staff, ada, **changes)


def test_strangers_pay_nothing_out(fees, ada):
    deposit, _ = lost_deposit()
    with pytest.raises(PermissionDenied):
        pay(ada, ada)
    with pytest.raises(PermissionDenied):
        assign_deposit(deposit=deposit, to=ada, reason="Mine.", acting_user=ada, at=NOON)


def test_what_the_receiver_owes_is_settled_first_and_asked_again_it_is_the_same(fees, staff, ada):
    owes = account_for(Kind.RECEIVABLE, ada.pk)
    legs = [Leg(owes, -OPEN), Leg(account_for(Kind.USER, ada.pk), OPEN)]
    post_entry(kind=Entry.Kind.GRANT, key="owed", legs=legs, at=NOON)
    entry = pay(staff, ada, amount=3 * OPEN)
    assert (balance_of(Kind.RECEIVABLE, ada.pk), balance_of(Kind.USER, ada.pk)) == (0, 3 * OPEN)
    assert pay(staff, ada, amount=3 * OPEN) == entry


def test_a_treasury_is_paid_out_of_its_own_rows_alone(staff, ada):
    mine, other = uuid7(), uuid7()
    gateway = account_for(Kind.GATEWAY)
    for datanet in (mine, other):
        rows = [account_for(Kind.TREASURY, datanet, cause=uuid7()) for _ in range(8)]
        legs = [Leg(gateway, -8), *(Leg(row, 1) for row in rows)]
        post_entry(kind=Entry.Kind.DEPOSIT, key=str(datanet), legs=legs, at=NOON)
    values = {"to": ada, "reason": "Prize.", "acting_user": ada, "at": NOON}
    pay_from_treasury(datanet_id=mine, amount=7, key="a", **values)
    assert [balance_of(Kind.TREASURY, one) for one in (mine, other)] == [1, 8]
    with pytest.raises(InsufficientFunds):
        pay_from_treasury(datanet_id=mine, amount=2, key="b", **values)
    assert wrong() == []


def test_a_lost_deposit_is_given_to_its_owner_once(staff, ada):
    deposit, place = lost_deposit()
    values = {"deposit": deposit, "to": ada, "reason": "Signed by it.", "acting_user": staff}
    entry = assign_deposit(**values, at=NOON)
    assert assign_deposit(**values, at=NOON) == entry
    assert (balance_of(Kind.UNASSIGNED), balance_of(Kind.USER, ada.pk)) == (0, 5)
    with pytest.raises(IdempotencyConflict):
        assign_deposit(**values | {"to": person("bob")}, at=NOON)
    undo_deposit(**place)
    assert balance_of(Kind.RECEIVABLE) == -5
    assert wrong() == []


def test_a_deposit_with_an_owner_or_without_a_block_is_not_given_away(staff, ada):
    mine = account_for(Kind.USER, ada.pk)
    values = {"to": person("bob"), "reason": "Mine.", "acting_user": staff, "at": NOON}
    credit_deposit(account_id=mine.pk, amount=5, chain_id=1, tx_hash="0xBB", log_index=0, at=NOON)
    gone, place = lost_deposit()
    undo_deposit(**place)
    for deposit in (Deposit.objects.get(tx_hash="0xbb"), Deposit.objects.get(pk=gone.pk)):
        with pytest.raises(InvalidEntry):
            assign_deposit(deposit=deposit, **values)


PAGES = [
    ("get", "/staff/money/"),
    ("post", "/staff/money/refund/"),
    ("post", "/staff/money/platform/"),
    ("post", f"/staff/money/deposits/{uuid7()}/"),
]


@pytest.mark.parametrize(("method", "url"), PAGES)
def test_the_pages_are_for_staff_alone(method, url, ada):
    assert getattr(browser(), method)(url).status_code == 302
    assert getattr(browser(ada), method)(url).status_code == 403
    other = "post" if method == "get" else "get"
    assert getattr(browser(ada), other)(url).status_code == 405


def test_staff_see_what_a_refund_would_do_and_do_it(fees, staff):
    client = browser(staff)
    page = client.get("/staff/money/", {"completion": str(fees.cause_id)}).content.decode()
    assert "10 OPEN" in page
    form = {"completion": str(fees.cause_id), "reason": "It answered nothing."}
    answer = client.post("/staff/money/refund/", form, follow=True).content.decode()
    assert "10 OPEN are back with" in answer
    assert "It answered nothing." in answer
    assert Refund.objects.get().hold == fees
    again = client.get("/staff/money/", {"completion": str(fees.cause_id)}).content.decode()
    assert "given back already" in again


def test_what_was_paid_for_something_else_than_an_answer_comes_back_as_well(fees, staff):
    payer = fees.payer
    hold = hold_for(payer, 10 * OPEN, cause_kind="embedding")
    capture(hold, 10 * OPEN)
    before = balance_of(Kind.USER, payer.pk)
    form = {"completion": str(hold.cause_id), "reason": "All zeros."}
    answer = browser(staff).post("/staff/money/refund/", form, follow=True).content.decode()
    assert "10 OPEN are back with" in answer
    assert balance_of(Kind.USER, payer.pk) == before + 10 * OPEN
    assert wrong() == []


def test_a_page_says_what_is_wrong_with_what_was_typed(fees, staff, ada):
    client = browser(staff)
    for form, told in (
        ({"completion": "x", "reason": "y"}, "valid UUID"),
        ({"completion": str(uuid7()), "reason": "y"}, "No fee was held"),
    ):
        answer = client.post("/staff/money/refund/", form, follow=True)
        assert told in answer.content.decode()
        assert [message.level_tag for message in answer.context["messages"]] == ["error"]
    form = {"amount": "1", "to": "nobody", "reason": "x", "key": str(uuid7())}
    page = client.post("/staff/money/platform/", form, follow=True).content.decode()
    assert "Nobody here has this handle" in page
    assert "look at its id" in client.get("/staff/money/?completion=x").content.decode()


def test_staff_pay_out_and_assign_by_the_page(fees, staff, ada):
    deposit, _ = lost_deposit(amount=5 * OPEN)
    client = browser(staff)
    assert str(deposit.pk) in client.get("/staff/money/").content.decode()
    form = {"amount": "2", "to": "@ada", "reason": "Rent.", "key": str(uuid7())}
    for _ in range(2):
        client.post("/staff/money/platform/", form)
    client.post(f"/staff/money/deposits/{deposit.pk}/", {"to": "ada", "reason": "Signed."})
    assert balance_of(Kind.USER, ada.pk) == 7 * OPEN
    assert (
        f"/staff/money/deposits/{deposit.pk}/" not in client.get("/staff/money/").content.decode()
    )


def test_refunds_by_api_are_for_staff_and_answer_the_same_twice(fees, staff, ada):
    body = {"completion": str(fees.cause_id), "reason": "It broke."}
    url = "/api/v1/refunds/"
    for client in (browser(), browser(ada)):
        assert client.post(url, body, content_type="application/json").status_code in (401, 403)
        assert client.get(url).status_code in (401, 403)
    client = browser(staff)
    first, again = (client.post(url, body, content_type="application/json") for _ in range(2))
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert (first.json()["amount"], first.json()["payer"]) == (str(10 * OPEN), "payer")
    assert len(client.get(url).json()["results"]) == 1
    body["completion"] = str(uuid7())
    assert client.post(url, body, content_type="application/json").status_code == 404
