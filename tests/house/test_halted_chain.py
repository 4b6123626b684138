"""A chain that took back what was final stands still until staff have looked and say so."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from accounts.models import AuditEvent, User
from config.doctor import examine
from ledger.models import ChainHead
from tests.ledger.books import person

pytestmark = pytest.mark.django_db
REASON = "Block 11 was final, and the chain took it back."


@pytest.fixture
def head(settings) -> ChainHead:
    settings.CHAIN_ENABLED = True
    settings.CHAIN_RPC_URL = "http://127.0.0.1:1"
    return ChainHead.objects.create(
        chain_id=settings.CHAIN_ID,
        genesis_hash="0x00",
        number=20,
        hash="0x14",
        safe_number=18,
        final_number=11,
        halted_at=timezone.now(),
        halt_reason=REASON,
        halt_ancestor=9,
        problem=REASON,
    )


@pytest.fixture
def staff(db) -> User:
    user = person("staff")
    user.is_staff = True
    user.save(update_fields=["is_staff"])
    return user


def lift(user: User | None, note: str):
    client = Client()
    if user:
        client.force_login(user)
    return client.post("/staff/lift-halt/", {"note": note}, follow=user is not None)


def test_staff_read_why_and_lift_it_with_a_note(head, staff):
    client = Client()
    client.force_login(staff)
    page = client.get("/staff/").content.decode()
    assert REASON in page
    assert "Lift the halt" in page
    assert "go on from the last shared block" in lift(staff, "a snapshot").content.decode()
    head.refresh_from_db()
    assert (head.halted_at, head.final_number) == (None, 9)
    event = AuditEvent.objects.get(verb="ledger.halt_lifted")
    assert (event.actor, event.data["note"]) == (staff, "a snapshot")


def test_without_a_note_it_stays_halted(head, staff):
    assert "Write down what you found" in lift(staff, "  ").content.decode()
    head.refresh_from_db()
    assert head.halted_at is not None


def test_others_do_not_lift_it(head):
    assert lift(None, "x").status_code == 302
    assert lift(person("stranger"), "x").status_code == 403
    head.refresh_from_db()
    assert head.halted_at is not None


def test_the_doctor_says_that_it_is_halted_and_what_to_do(head):
    mirror = next(finding for finding in examine(at=timezone.now()) if finding.name == "mirror")
    assert not mirror.well
    assert REASON in mirror.fact
    assert "lift_halt" in mirror.what_to_do


def test_the_command_asks_for_a_note_and_lifts(head):
    with pytest.raises(CommandError, match="--note"):
        call_command("lift_halt")
    out = StringIO()
    call_command("lift_halt", "--note", "the node was restored", stdout=out)
    assert "back to block" in out.getvalue()
    with pytest.raises(CommandError, match="not halted"):
        call_command("lift_halt", "--note", "again")
