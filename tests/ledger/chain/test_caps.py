"""What moves more than the caps let out waits for a person, and is let through one by one."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import AuditEvent, Notification
from config.doctor import examine
from ledger import calldata, truth
from ledger.models.chain import Intent
from ledger.outflows import outflow
from ledger.selectors import earnings as earnings_of
from ledger.services.caps import NotHeldBack, lift_cap
from tests.chain_fixtures import ALICE, BOB, Chain
from tests.ledger.books import FIRST, earn, link, person, publish
from tests.ledger.chain.paying import Payer, ask_for

State = Intent.State


def payer_with(chain: Chain, **caps: int) -> Payer:
    """A payer at noon of tomorrow, so that no midnight falls into the test."""
    # What was asked for today is not stuck tomorrow.
    payer = Payer(chain, stuck_after=10**6, **caps)
    now = timezone.now().astimezone(UTC)
    noon = datetime(now.year, now.month, now.day, 12, tzinfo=UTC) + timedelta(days=1)
    payer.clock.ahead = noon - now
    return payer


def started_again(payer: Payer, **caps: int) -> Payer:
    """Another process, later, perhaps with other settings."""
    again = Payer(payer.chain, stuck_after=10**6, **caps)
    again.clock = payer.clock
    return again


@pytest.fixture
def staff(db: None):
    user = person("staff")
    user.is_staff = True
    user.save(update_fields=["is_staff"])
    return user


@pytest.fixture
def held(chain_settings: Chain, db: None) -> Intent:
    """An intent of 1,000 wei on a wallet whose cap is 900."""
    intent = ask_for(1)[0]
    payer_with(chain_settings, transaction_cap=900).step()
    intent.refresh_from_db()
    return intent


def in_turn(count: int) -> list[Intent]:
    """Intents of 1000 wei and more, whose ids tell the order in which they were asked for."""
    intents = []
    for number in range(count):
        intents += ask_for(1, first=number)
        time.sleep(0.002)  # ids order by milliseconds
    return intents


def states(intents: list[Intent]) -> list[str]:
    rows = Intent.objects.in_bulk([one.pk for one in intents])
    return [rows[one.pk].state for one in intents]


def test_what_is_over_the_cap_of_a_transaction_waits_and_the_rest_goes(
    chain_settings, db, staff
) -> None:
    payer = payer_with(chain_settings, transaction_cap=1001)
    intents = ask_for(3)  # 1000, 1001 and 1002 wei
    payer.run(10)
    assert states(intents) == [State.FINAL, State.FINAL, State.NEW]
    assert payer.alarms == {"cap"}
    assert "lift_cap" in payer.wallet.problem
    assert Notification.objects.filter(user=staff, kind="ledger.alarm").count() == 1

    again = started_again(payer, transaction_cap=1002)
    again.run(10)
    assert states(intents) == [State.FINAL] * 3
    assert again.alarms == set()


def test_a_day_has_a_cap_that_a_restart_does_not_forget(chain_settings, db) -> None:
    intents = in_turn(4)  # 1000 to 1003 wei
    payer = payer_with(chain_settings, day_cap=2500)
    payer.run(3)
    assert payer.alarms == {"day"}
    again = started_again(payer, day_cap=2500)
    again.run(8)
    assert states(intents) == [State.FINAL, State.FINAL, State.NEW, State.NEW]

    again.clock.pass_(12 * 3600)
    again.run(10)
    assert states(intents) == [State.FINAL] * 4
    assert again.alarms == set()


def test_at_the_days_end_nothing_smaller_overtakes_and_what_moves_nothing_goes(
    chain_settings, db
) -> None:
    first, large, small = in_turn(3)
    Intent.objects.filter(pk=small.pk).update(value=1, outflow=1)
    Intent.objects.create(
        kind=Intent.Kind.ANCHOR, key="anchor", chain_id=31337, to=ALICE, data=b"", gas_limit=21_000
    )
    payer = payer_with(chain_settings, day_cap=1500)
    payer.run(10)
    assert states([first, large, small]) == [State.FINAL, State.NEW, State.NEW]
    assert Intent.objects.get(key="anchor").state == State.FINAL


def test_what_failed_counts_for_no_day(chain_settings, db) -> None:
    payer = payer_with(chain_settings, day_cap=1500)
    failed, paid = ask_for(2)
    Intent.objects.filter(pk=failed.pk).update(
        state=State.FAILED, wallet=None, signed_at=payer.clock()
    )
    payer.run(10)
    assert states([paid]) == [State.FINAL]


def test_what_waits_for_a_person_is_not_called_stuck(chain_settings, held) -> None:
    payer = Payer(chain_settings, transaction_cap=900, stuck_after=60)
    payer.clock.pass_(3600)
    payer.step()
    assert payer.alarms == {"cap"}


def test_a_person_lets_one_through_and_it_counts_for_no_day(chain_settings, held, staff) -> None:
    assert held.held_by_cap == 900
    assert "over the cap" in truth.of_intent(held).words
    lift_cap(intent_id=held.pk, acting_user=staff, note="the epoch of a month", at=timezone.now())

    payer = payer_with(chain_settings, transaction_cap=900, day_cap=900)
    small = ask_for(1, first=1)[0]
    Intent.objects.filter(pk=small.pk).update(value=900, outflow=900)
    payer.run(10)

    assert states([held, small]) == [State.FINAL, State.FINAL]
    event = AuditEvent.objects.get(verb="ledger.cap_lifted")
    assert (event.actor, event.data["outflow"], event.data["cap"]) == (staff, "1000", "900")
    assert event.data["note"] == "the epoch of a month"


def test_what_the_day_holds_back_may_be_let_through_as_well(chain_settings, staff) -> None:
    intents = in_turn(2)
    payer = payer_with(chain_settings, day_cap=1500)
    payer.run(3)
    lift_cap(intent_id=intents[1].pk, acting_user=staff, note="it is right", at=timezone.now())
    payer.run(10)
    assert states(intents) == [State.FINAL, State.FINAL]


def test_nothing_is_lifted_twice_or_where_no_cap_holds(chain_settings, held, staff) -> None:
    def lift(pk) -> None:
        lift_cap(intent_id=pk, acting_user=staff, note="x", at=timezone.now())

    lift(held.pk)
    free = ask_for(1, first=5)[0]
    for pk in (held.pk, free.pk, uuid4()):
        with pytest.raises(NotHeldBack):
            lift(pk)


def test_staff_let_it_through_with_a_note_on_their_page(held, staff) -> None:
    client = Client()
    client.force_login(staff)
    assert "Let it through" in client.get("/staff/").content.decode()
    url = f"/staff/lift-cap/{held.pk}/"
    assert "Write down why" in client.post(url, {"note": " "}, follow=True).content.decode()
    held.refresh_from_db()
    assert held.cap_lifted_at is None
    assert "next step" in client.post(url, {"note": "a month"}, follow=True).content.decode()
    held.refresh_from_db()
    assert held.cap_lifted_at is not None
    assert "Let it through" not in client.get("/staff/").content.decode()
    assert client.get(url).status_code == 405


def test_others_let_nothing_through(held) -> None:
    client = Client()
    url = f"/staff/lift-cap/{held.pk}/"
    assert client.post(url, {"note": "x"}).status_code == 302
    client.force_login(person("stranger"))
    assert client.post(url, {"note": "x"}).status_code == 403
    held.refresh_from_db()
    assert held.cap_lifted_at is None


def test_those_whose_epoch_waits_read_why(chain_settings, db) -> None:
    """A distribution is funded by one call with the sum of its epoch."""
    user = person("contributor")
    earn(user, 5_000)
    link(user, FIRST)
    distribution = publish()
    payer_with(chain_settings, transaction_cap=4_999).step()

    words = truth.of_distribution(distribution).words
    assert "over the cap" in words
    (pending,) = earnings_of(user).pending
    assert pending.reason == words
    client = Client()
    client.force_login(user)
    page = client.get(f"/explorer/distributions/{distribution.pk}/").content.decode()
    assert "a member of staff looks at it" in page


def test_the_command_and_the_doctor_name_what_waits(held) -> None:
    told = next(one for one in examine(at=timezone.now()) if one.name == "caps")
    assert (told.well, "1 intents wait" in told.fact) == (False, True)
    out = StringIO()
    call_command("lift_cap", stdout=out)
    assert str(held.pk) in out.getvalue()
    with pytest.raises(CommandError, match="--note"):
        call_command("lift_cap", str(held.pk))
    call_command("lift_cap", str(held.pk), "--note", "meant", stdout=out)
    assert next(one for one in examine(at=timezone.now()) if one.name == "caps").well
    with pytest.raises(CommandError, match="nothing to lift"):
        call_command("lift_cap", str(held.pk), "--note", "again")


def test_a_call_of_the_gateway_counts_with_what_it_takes_out(chain_settings) -> None:
    gateway = chain_settings.address("Gateway")
    payments = calldata.withdraw(uuid7(), [(ALICE, 7), (BOB, 5)])
    assert outflow(gateway=gateway, to=gateway, data=payments, value=0) == 12
    funding = calldata.fund_distributor(uuid7(), 30)
    assert outflow(gateway=gateway, to=gateway.lower(), data=funding, value=0) == 30
    stakers = calldata.fund_stakers(batch_id=uuid7(), pool_id=b"\1" * 32, amount=40)
    assert outflow(gateway=gateway, to=gateway, data=stakers, value=1) == 41
    # The same bytes at another address do something else, of which only the value is known.
    assert outflow(gateway=gateway, to=ALICE, data=payments, value=3) == 3
    assert outflow(gateway=gateway, to=gateway, data=b"\xde\xad\xbe\xef", value=2) == 2
