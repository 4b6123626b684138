"""The owner of a Datanet pays out its treasury; staff do where it was taken down, nobody else."""

import pytest
from django.core.exceptions import PermissionDenied

from accounts.ids import uuid7
from datanets.errors import DatanetError
from datanets.models import Datanet, DatanetState
from datanets.services.treasury import pay_out_treasury
from ledger.models import Account, Entry
from ledger.services.opening import account_for
from ledger.services.posting import Leg, post_entry
from tests.ledger.books import OPEN, balance_of

from .conftest import NOON

pytestmark = pytest.mark.django_db


@pytest.fixture
def rich(published):
    """The treasury has 10 OPEN."""
    treasury = account_for(Account.Kind.TREASURY, published.pk)
    legs = [Leg(account_for(Account.Kind.GATEWAY), -10 * OPEN), Leg(treasury, 10 * OPEN)]
    post_entry(kind=Entry.Kind.DEPOSIT, key="rich", legs=legs, at=NOON)
    return published


def pay(datanet, who, to=None):
    values = {"amount": OPEN, "reason": "Prize.", "key": uuid7().hex, "at": NOON}
    return pay_out_treasury(datanet=datanet, to=to or who, acting_user=who, **values)


def spendable(user):
    return balance_of(Account.Kind.USER, user.pk)


def test_the_owner_pays_out_and_a_stranger_does_not(rich, owner, stranger, staff):
    pay(rich, owner, to=stranger)
    assert spendable(stranger) == OPEN
    for other in (stranger, staff):
        with pytest.raises(PermissionDenied):
            pay(rich, other)


def test_of_a_datanet_that_was_taken_down_staff_keep_the_treasury(rich, owner, staff, stranger):
    Datanet.objects.filter(pk=rich.pk).update(state=DatanetState.TAKEN_DOWN)
    rich.refresh_from_db()
    with pytest.raises(DatanetError):
        pay(rich, owner)
    pay(rich, staff, to=stranger)
    assert spendable(stranger) == OPEN


def test_the_page_pays_out_once_and_says_what_is_wrong(rich, owner, stranger, browser):
    url, tab = f"{rich.get_absolute_url()}treasury/", f"{rich.get_absolute_url()}stakes/"
    form = {"amount": "3", "to": stranger.handle, "reason": "Prize.", "key": str(uuid7())}
    assert browser().post(url, form).status_code == 302
    assert browser(stranger).post(url, form).status_code == 403
    client = browser(owner)
    assert client.get(url).status_code == 405
    assert "Pay out" in client.get(tab).content.decode()
    assert "Pay out" not in browser(stranger).get(tab).content.decode()
    for _ in range(2):
        assert client.post(url, form).status_code == 302
    assert spendable(stranger) == 3 * OPEN
    form |= {"amount": "300", "key": str(uuid7())}
    assert "are there" in client.post(url, form, follow=True).content.decode()
    form |= {"to": "nobody"}
    assert "Nobody here" in client.post(url, form, follow=True).content.decode()
