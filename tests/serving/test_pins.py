"""An adapter is kept in memory for a price: held, charged once it is there, given back if never."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import Notification, OutboxMessage
from ledger.models import Account, Entry, Hold
from modelfactory.models import Model
from serving import workers
from serving.errors import NoBalance, NotPinnable
from serving.models import Deployment, Pin
from serving.services import pins
from tests.ledger.books import OPEN, balance_of

pytestmark = pytest.mark.django_db
MIB = 1 << 20


@pytest.fixture(autouse=True, scope="module")
def engines() -> Iterator[None]:
    yield
    workers.close_engines()


@pytest.fixture
def request_pin(tuned, client_person):
    def asked(**changes) -> Pin:
        values = {"deployment": tuned, "days": 7, "acting_user": client_person}
        return pins.request_pin(at=timezone.now(), **{**values, **changes})

    return asked


def work(base) -> dict[str, bool]:
    """As the worker does that got the message; which adapters are pinned then."""
    workers.keep_pins(base.pk)
    return {one.name: one.pinned for one in workers.engine_for(base).adapters()}


def test_it_is_charged_once_a_worker_has_it_and_ends(request_pin, base, client_person):
    pin = request_pin()
    assert (pin.state, pin.fee) == ("REQUESTED", 7 * 10**15)
    message = OutboxMessage.objects.order_by("id").last()
    assert (message.task, message.queue) == ("serving.tasks.pin", "generate.starter")
    assert balance_of(Account.Kind.HOLD, client_person.pk) == pin.fee
    assert list(work(base).values()) == [True]
    assert list(work(base).values()) == [True]
    pin.refresh_from_db()
    assert pin.state == "ACTIVE"
    assert pin.until == pin.active_at + timedelta(days=7)
    entry = Entry.objects.get(pk=pin.entry_id)
    assert (entry.cause_kind, entry.cause_id) == ("pin", pin.pk)
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN - pin.fee
    assert balance_of(Account.Kind.HOLD, client_person.pk) == 0
    pins.end_pins(at=pin.until - timedelta(seconds=1))
    assert Pin.objects.get().state == "ACTIVE"
    pins.end_pins(at=pin.until)
    assert Pin.objects.get().state == "ENDED"
    assert list(work(base).values()) == [False]
    assert "pinned no longer" in Notification.objects.order_by("id").last().title


def test_what_never_comes_into_memory_is_given_back(request_pin, base, client_person):
    pin = request_pin()
    Model.objects.update(adapter_sha256="0" * 64)
    workers.keep_pins(base.pk)
    pin.refresh_from_db()
    assert pin.state == "FAILED"
    assert Hold.objects.get(pk=pin.hold_id).state == "RELEASED"
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN


def test_without_a_worker_it_is_given_back_in_time(request_pin, client_person):
    pin = request_pin()
    pins.end_pins(at=pin.created_at + timedelta(minutes=9))
    assert Pin.objects.get().state == "REQUESTED"
    pins.end_pins(at=pin.created_at + pins.PATIENCE)
    assert Pin.objects.get().state == "FAILED"
    assert pins.note_pinned(pin_id=pin.pk, at=timezone.now()) is None
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN


def test_its_price_is_by_size_and_days(tuned, base_alone):
    for size, mib in ((1, 1), (MIB, 1), (MIB + 1, 2)):
        tuned.model.adapter_bytes = size
        quote = pins.quote_pin(deployment=tuned, days=3)
        assert (quote.mib, quote.fee) == (mib, mib * 3 * 10**15)
    for deployment, days in ((base_alone, 1), (tuned, 0), (tuned, 31)):
        with pytest.raises(NotPinnable):
            pins.quote_pin(deployment=deployment, days=days)


def test_it_is_refused_twice_without_money_stopped_or_beyond_the_room(
    request_pin, tuned, stranger, client_person
):
    with pytest.raises(NoBalance):
        request_pin(acting_user=stranger)
    size = tuned.model.adapter_bytes
    Model.objects.update(adapter_bytes=pins.PINNED_BYTES + 1)
    tuned.model.refresh_from_db()
    with pytest.raises(NotPinnable, match="MiB"):
        request_pin(days=1)
    Model.objects.update(adapter_bytes=size)
    tuned.model.refresh_from_db()
    request_pin()
    with pytest.raises(NotPinnable, match="pinned already"):
        request_pin()
    Deployment.objects.update(state="STOPPED")
    tuned.refresh_from_db()
    with pytest.raises(NotPinnable, match="live"):
        request_pin()
    assert Hold.objects.count() == 1


def test_a_person_pins_it_from_its_page_and_staff_see_it(client, tuned, client_person, staff, base):
    client.force_login(client_person)
    assert "Pin it" in client.get(tuned.get_absolute_url()).content.decode()
    address = f"/deployments/{tuned.name}/pin/"
    assert "0.007 OPEN" in client.get(address).content.decode()
    assert client.post(address, {"days": "7"}).status_code == 302
    assert "Its price is held until" in client.get(address).content.decode()
    work(base)
    page = client.get(address).content.decode()
    entry = Pin.objects.get().entry_id
    assert f"/entries/{entry}" in page or str(entry) in page
    client.force_login(staff)
    page = client.get("/staff/engines/").content.decode()
    assert "ACTIVE" in page
    assert str(entry) in page


def test_a_stranger_pins_nothing_that_is_not_to_be_seen(client, tuned, stranger):
    address = f"/deployments/{tuned.name}/pin/"
    assert client.post(address, {"days": "7"}).status_code == 302
    assert client.get(address).url.startswith("/accounts/login")
    client.force_login(stranger)
    assert client.post(address, {"days": "5"}).status_code == 200
    Model.objects.update(state="DRAFT")
    assert client.post(address, {"days": "7"}).status_code == 404
    assert not Pin.objects.exists()


def test_after_its_hold_ran_out_it_fails_and_others_are_kept_still(request_pin, client_person):
    """As after an outage of the scheduler: a worker that is told so must not stop at it."""
    pin = request_pin()
    late = pin.created_at + pins.PATIENCE * 3
    assert pins.note_pinned(pin_id=pin.pk, at=late) is None
    pin.refresh_from_db()
    assert pin.state == "FAILED"
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN
