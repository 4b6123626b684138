"""Several processes at once leave a history that one ledger can have given."""

from dataclasses import replace
from urllib.parse import quote

import pytest
from django.db import connection

from ledger.reconciliation import check_ledger
from tests.ledger.books import link, person
from tests.ledger.history import crew
from tests.ledger.history.check import Kept, violations
from tests.ledger.history.record import DONE, REFUSED, UNKNOWN, Request, read

PROCESSES = 4
ADA = ("USER", "ada")


def url_of_the_test_database() -> str:
    found = connection.settings_dict
    host = found["HOST"] or found["OPTIONS"].get("host", "")
    who = f"{quote(found['USER'] or '')}:{quote(found['PASSWORD'] or '', safe='')}"
    port = f"&port={found['PORT']}" if found["PORT"] else ""
    return f"postgresql://{who}@/{found['NAME']}?host={quote(str(host), safe='')}{port}"


@pytest.mark.django_db(transaction=True)
def test_four_processes_leave_a_history_without_a_violation(tmp_path):
    people = [person(f"person-{number}") for number in range(4)]
    for number, user in enumerate(people[:2]):
        link(user, f"0x{number + 1:040x}")
    size = {"processes": PROCESSES, "jobs": 160, "requests": 180}
    path = crew.plan(tmp_path, people, **size, seed=11, publishes=True)

    crowd = crew.start(path, processes=PROCESSES, database_url=url_of_the_test_database())
    assert [process.wait(240) for process in crowd] == [0] * PROCESSES

    history, entries = read(tmp_path), crew.kept_entries()
    unanswered = [(one.label, one.code) for one in history if one.outcome == UNKNOWN]
    assert unanswered == []
    assert {request.outcome for request in history} == {DONE, REFUSED}
    assert len(entries) > 400
    assert violations(history, entries) == []
    assert [finding.name for finding in check_ledger() if not finding.holds] == []


def asked(label, began, ended, **more):
    return Request(0, label, None, began, ended, DONE, **more)


GIVEN = asked("deposit", 1, 2, entry="e1")
TAKEN = replace(asked("hold", 3, 4, entry="e2"), takes=(*ADA, 5))
ENTRIES = [Kept("e1", {ADA: 5}), Kept("e2", {ADA: -5})]


def test_a_sound_history_has_no_violation():
    assert violations([GIVEN, TAKEN], ENTRIES) == []


@pytest.mark.parametrize(
    ("history", "entries", "said"),
    [
        ([GIVEN], [], "deposit was acknowledged and is lost"),
        ([GIVEN], [*ENTRIES[:1], Kept("e9", {ADA: 5})], "e9 was written and nobody told"),
        ([GIVEN, replace(GIVEN, entry="e9")], ENTRIES, "deposit was acknowledged as 2 entries"),
        ([GIVEN, replace(GIVEN, label="other")], ENTRIES[:1], "stands for ['deposit', 'other']"),
        (
            [GIVEN, replace(TAKEN, outcome=REFUSED, code="insufficient_funds", entry="")],
            ENTRIES[:1],
            "hold was refused 5; at least 5 was there",
        ),
        (
            [GIVEN, replace(TAKEN, takes=(*ADA, 6))],
            ENTRIES,
            "hold took 6; at most 5 was there",
        ),
        (
            [GIVEN, TAKEN, replace(TAKEN, label="again", began=5, ended=6, entry="e3")],
            [*ENTRIES, Kept("e3", {ADA: -5})],
            "again took 5; at most 0 was there",
        ),
    ],
)
def test_the_check_finds_what_must_not_be(history, entries, said):
    assert any(said in sentence for sentence in violations(history, entries))


def test_what_ran_at_the_same_time_may_have_come_in_any_order():
    """Refused while the money was on its way, and taken while it came: both are possible."""
    refused = replace(TAKEN, began=1, ended=3, outcome=REFUSED, code="insufficient_funds", entry="")
    assert violations([GIVEN, refused], ENTRIES[:1]) == []
    assert violations([GIVEN, replace(TAKEN, began=1, ended=3)], ENTRIES) == []
