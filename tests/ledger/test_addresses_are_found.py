"""Looking an address up reads an index, however it is spelt and however many there are."""

import pytest
from django.db import connection

from accounts.models import Wallet
from ledger.models import PayoutAddress
from ledger.selectors import addresses_of, payee_by_address
from tests.ledger.books import FIRST, SECOND, earn, link, publish

pytestmark = pytest.mark.django_db
MIXED = "0x" + "aB" * 20


def plan(found):
    """How the database reads `found` where reading the whole table is no choice."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        text = found.explain()
        cursor.execute("SET LOCAL enable_seqscan TO DEFAULT")
    return text


@pytest.mark.parametrize("model", [PayoutAddress, Wallet])
@pytest.mark.parametrize("lookup", [{"address__iexact": MIXED}, {"address__in": [FIRST, SECOND]}])
def test_a_lookup_reads_an_index(model, lookup):
    assert "Seq Scan" not in plan(model.objects.filter(**lookup))


def test_any_spelling_finds_the_one_address(contributor):
    wallet = link(contributor, MIXED.lower())
    earn(contributor, 5)
    publish()

    for spelling in (MIXED.lower(), MIXED.upper().replace("X", "x"), wallet.address):
        assert payee_by_address(spelling).address == wallet.address


def test_a_person_has_the_addresses_they_hold_and_those_they_were_paid_to(contributor, builder):
    link(contributor, FIRST)
    earn(contributor, 5)
    publish()
    contributor.wallets.all().delete()
    link(builder, FIRST)
    link(contributor, SECOND)
    earn(contributor, 6, 1)
    publish()

    assert [one.address for one in addresses_of(contributor)] == [FIRST, SECOND]
    assert [one.address for one in addresses_of(builder)] == [FIRST]
