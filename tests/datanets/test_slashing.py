"""A slash: proposed with evidence, appealed with a bond, decided by another, taken once."""

from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
import time_machine
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEvent, Notification, User
from datanets import tasks
from datanets.errors import DatanetError
from datanets.models import Contribution, Datanet, Record, Slash
from datanets.services import imports, reviews, slashing, staking
from ledger.models import Account, Entry
from ledger.reconciliation import check_ledger
from tests.ledger.books import OPEN, balance_of, fund

from .conftest import NOON, ROWS

Browser = Callable[..., Client]
WINDOW = timedelta(days=7)
MOMENT = timedelta(seconds=1)


@pytest.fixture
def staked(published: Datanet, owner: User, contributor: User, jsonl: Any) -> Contribution:
    """Six records with a stake of 2 OPEN; the contributor has 8 more."""
    staking.set_stake_amount(datanet=published, amount=2 * OPEN, acting_user=owner, at=NOON)
    fund(contributor, 10 * OPEN)
    return imports.import_file(
        datanet=published, path=jsonl(ROWS), acting_user=contributor, at=NOON
    )


@pytest.fixture
def proposed(staked: Contribution, reviewer: User) -> Slash:
    return propose(staked, reviewer)


@pytest.fixture
def appealed(proposed: Slash, contributor: User) -> Slash:
    appeal(proposed, contributor)
    return proposed


def propose(contribution: Contribution, by: User, **changes: Any) -> Slash:
    values: dict[str, Any] = {
        "contribution": contribution,
        "reason": "BIASED",
        "evidence": "Rows 1 and 2 praise one maker alone.",
        "records": contribution.records.order_by("row").values_list("pk", flat=True)[:2],
        "acting_user": by,
        "at": NOON,
    }
    return slashing.propose_slash(**values | changes)


def appeal(slash: Slash, by: User, at: Any = NOON) -> None:
    slashing.appeal_slash(slash=slash, text="Row 1 names three makers.", acting_user=by, at=at)


def decide(slash: Slash, by: User, *, upheld: bool) -> None:
    slashing.decide_appeal(
        slash=slash, upheld=upheld, statement="I read both.", acting_user=by, at=NOON
    )


def books(contributor: User, datanet: Datanet) -> tuple[int, int, int]:
    """Spendable balance, what lies on stakes and bonds, treasury."""
    locked = sum(Account.objects.filter(kind="STAKE").values_list("balance", flat=True))
    return (
        balance_of(Account.Kind.USER, contributor.pk),
        locked,
        balance_of(Account.Kind.TREASURY, datanet.pk),
    )


def test_the_contributor_is_told_at_once_what_for_how_much_and_until_when(
    proposed: Slash, contributor: User
) -> None:
    assert (proposed.basis_points, proposed.amount) == (2_500, OPEN // 2)
    told = Notification.objects.get(user=contributor, kind="datanets.slash")
    assert told.title == "0.5 OPEN of your stake are to be slashed"
    assert "praise one maker" in told.body
    assert "2026-11-28 12:00" in told.body
    assert told.url == proposed.get_absolute_url()


def test_without_an_appeal_it_is_executed_after_the_window_and_once(
    proposed: Slash, contributor: User, reviewer: User
) -> None:
    assert slashing.execute_due_slashes(at=NOON + WINDOW - MOMENT) == 0
    assert slashing.execute_due_slashes(at=NOON + WINDOW) == 1
    assert slashing.execute_due_slashes(at=NOON + WINDOW) == 0
    proposed.refresh_from_db()
    assert proposed.state == "EXECUTED"
    half = OPEN // 2
    assert books(contributor, proposed.datanet) == (8 * OPEN, 2 * OPEN - half, half)
    entry = Entry.objects.get(kind="SLASH")
    assert (entry.pk, entry.cause_kind, entry.cause_id) == (
        proposed.entry_id,
        "slash",
        proposed.pk,
    )
    reviews.accept_records(datanet=proposed.datanet, acting_user=reviewer, at=NOON)
    assert staking.return_due_stakes(at=NOON + 3 * WINDOW) == 1
    assert books(contributor, proposed.datanet) == (10 * OPEN - half, 0, half)
    assert all(finding.holds for finding in check_ledger())


def test_an_appeal_stops_it_and_locks_the_bond(appealed: Slash, contributor: User) -> None:
    assert slashing.execute_due_slashes(at=NOON + 10 * WINDOW) == 0
    assert books(contributor, appealed.datanet) == (7 * OPEN, 3 * OPEN, 0)
    with pytest.raises(DatanetError) as caught:
        appeal(appealed, contributor)
    assert caught.value.code == "STATE"
    assert books(contributor, appealed.datanet) == (7 * OPEN, 3 * OPEN, 0)


def test_upheld_takes_the_part_and_the_bond(
    appealed: Slash, contributor: User, staff: User
) -> None:
    decide(appealed, staff, upheld=True)
    half = OPEN // 2
    assert books(contributor, appealed.datanet) == (7 * OPEN, 2 * OPEN - half, OPEN + half)
    appealed.refresh_from_db()
    assert (appealed.state, appealed.decided_by, appealed.statement) == (
        "UPHELD",
        staff,
        "I read both.",
    )
    assert all(finding.holds for finding in check_ledger())


def test_overturned_gives_the_bond_back_and_is_noted_under_the_proposers_name(
    appealed: Slash, contributor: User, reviewer: User, owner: User, browser: Browser
) -> None:
    decide(appealed, owner, upheld=False)
    assert books(contributor, appealed.datanet) == (8 * OPEN, 2 * OPEN, 0)
    appealed.refresh_from_db()
    assert appealed.state == "OVERTURNED"
    assert appealed.entry is None
    noted = AuditEvent.objects.get(verb="slash.proposal_overturned")
    assert (noted.target_id, noted.actor) == (reviewer.pk, owner)
    people = browser().get(reverse("datanets:people", args=[appealed.datanet.slug]))
    assert "1 slash proposed, 1 overturned" in people.content.decode()
    with pytest.raises(DatanetError):
        decide(appealed, owner, upheld=True)


def test_nobody_decides_their_own_proposal_or_their_own_stake(
    staked: Contribution, contributor: User, owner: User, reviewer: User, staff: User
) -> None:
    slash = propose(staked, owner)
    appeal(slash, contributor)
    for person in (owner, reviewer, contributor):
        with pytest.raises(PermissionDenied):
            decide(slash, person, upheld=True)
    User.objects.filter(pk__in=[owner.pk, contributor.pk]).update(is_staff=True)
    for person in (owner, contributor):
        person.refresh_from_db()
        with pytest.raises(PermissionDenied):
            decide(slash, person, upheld=False)
    with pytest.raises(IntegrityError, match="slash_decided_by_another"), transaction.atomic():
        Slash.objects.filter(pk=slash.pk).update(decided_by=owner)
    decide(slash, staff, upheld=False)


def test_an_appeal_comes_in_time_or_not_at_all(proposed: Slash, contributor: User) -> None:
    with pytest.raises(DatanetError) as caught:
        appeal(proposed, contributor, NOON + WINDOW)
    assert caught.value.code == "WINDOW"
    appeal(proposed, contributor, NOON + WINDOW - MOMENT)


def test_an_appeal_needs_words_and_the_bond(
    proposed: Slash, contributor: User, stranger: User
) -> None:
    with pytest.raises(PermissionDenied):
        appeal(proposed, stranger)
    with pytest.raises(DatanetError) as caught:
        slashing.appeal_slash(slash=proposed, text=" ", acting_user=contributor, at=NOON)
    assert caught.value.code == "EVIDENCE"
    staking.lock_stake(
        staker=contributor,
        amount=8 * OPEN,
        cause_kind="test",
        cause_id=contributor.pk,
        acting_user=contributor,
        at=NOON,
    )
    with pytest.raises(DatanetError) as caught:
        appeal(proposed, contributor)
    assert caught.value.code == "FUNDS"
    proposed.refresh_from_db()
    assert proposed.state == "PROPOSED"


def test_one_slash_of_a_stake_is_open_at_a_time_and_all_of_them_take_no_more_than_it(
    staked: Contribution, reviewer: User, owner: User, contributor: User
) -> None:
    first = propose(staked, reviewer)
    with pytest.raises(DatanetError) as caught:
        propose(staked, owner)
    assert caught.value.code == "STATE"
    slashing.execute_due_slashes(at=NOON + WINDOW)
    second = propose(staked, owner, reason="ADVERSARIAL")
    assert first.amount + second.amount == 2 * OPEN
    slashing.execute_due_slashes(at=NOON + WINDOW)
    assert books(contributor, staked.datanet) == (8 * OPEN, 0, 2 * OPEN)
    with pytest.raises(DatanetError) as caught:
        propose(staked, reviewer)
    assert "No stake is locked" in caught.value.message


def test_a_stake_waits_for_its_open_slash(proposed: Slash, reviewer: User) -> None:
    reviews.accept_records(datanet=proposed.datanet, acting_user=reviewer, at=NOON)
    assert staking.return_due_stakes(at=NOON + 10 * WINDOW) == 0
    slashing.withdraw_slash(slash=proposed, acting_user=reviewer, at=NOON)
    assert staking.return_due_stakes(at=NOON + 10 * WINDOW) == 1


def test_whoever_proposed_it_may_take_it_back_until_an_appeal(
    appealed: Slash, reviewer: User, owner: User
) -> None:
    with pytest.raises(PermissionDenied):
        slashing.withdraw_slash(slash=appealed, acting_user=owner, at=NOON)
    with pytest.raises(DatanetError):
        slashing.withdraw_slash(slash=appealed, acting_user=reviewer, at=NOON)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"reason": "UGLY"}, "REASON"),
        ({"evidence": "  "}, "EVIDENCE"),
        ({"records": []}, "RECORDS"),
    ],
)
def test_it_needs_a_reason_evidence_and_records(
    staked: Contribution, reviewer: User, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(DatanetError) as caught:
        propose(staked, reviewer, **changes)
    assert caught.value.code == code
    assert not Slash.objects.exists()


def test_records_of_another_contribution_are_no_evidence(
    staked: Contribution, reviewer: User, owner: User, jsonl: Any
) -> None:
    rows = [{"question": "What is new?", "answer": "This."}]
    other = imports.import_file(
        datanet=staked.datanet, path=jsonl(rows), acting_user=owner, at=NOON
    )
    with pytest.raises(DatanetError):
        propose(staked, reviewer, records=[other.records.get().pk])


def test_strangers_and_the_staker_propose_nothing(
    staked: Contribution, stranger: User, contributor: User, published: Datanet
) -> None:
    with pytest.raises(PermissionDenied):
        propose(staked, stranger)
    published.memberships.create(user=contributor, role="REVIEWER")
    with pytest.raises(PermissionDenied):
        propose(staked, contributor)


def test_what_was_proposed_never_changes(proposed: Slash) -> None:
    for change in ({"amount": 1}, {"evidence": "other"}, {"appeal_until": NOON}):
        with (
            pytest.raises(Exception, match=r"slash_keeps_its_terms|Cannot update"),
            transaction.atomic(),
        ):
            Slash.objects.filter(pk=proposed.pk).update(**change)
    with pytest.raises(IntegrityError, match="slash_taken_by_an_entry"), transaction.atomic():
        Slash.objects.filter(pk=proposed.pk).update(state="EXECUTED", closed_at=NOON)


def test_an_open_slash_is_for_the_people_concerned_and_a_taken_one_for_all(
    proposed: Slash, browser: Browser, stranger: User, contributor: User, owner: User, staff: User
) -> None:
    url = proposed.get_absolute_url()
    api = f"/api/v1/slashes/{proposed.pk}/"
    listed = reverse("datanets:stakes", args=[proposed.datanet.slug])
    concerned = (contributor, proposed.proposed_by, owner, staff)
    assert [browser(u).get(url).status_code for u in (None, stranger)] == [404, 404]
    assert [browser(u).get(api).status_code for u in (None, stranger)] == [404, 404]
    assert [browser(u).get(url).status_code for u in concerned] == [200] * 4
    assert "Nothing was slashed here" in browser(stranger).get(listed).content.decode()
    slashing.execute_due_slashes(at=NOON + WINDOW)
    page = browser().get(url).content.decode()
    assert "praise one maker" in page
    assert proposed.staked.contribution.name not in page
    assert browser().get(api).json()["state"] == "EXECUTED"
    assert contributor.handle in browser().get(listed).content.decode()


def test_the_way_through_the_pages(
    staked: Contribution, browser: Browser, contributor: User, reviewer: User, staff: User
) -> None:
    judge = browser(reviewer)
    review = judge.get(reverse("datanets:review", args=[staked.datanet.slug])).content.decode()
    url = reverse("datanets:propose-slash", args=[staked.pk])
    assert url in review
    record = Record.objects.earliest("id")
    assert "checked" in judge.get(url, {"record": record.pk}).content.decode()
    assert judge.post(url, {"reason": "REDUNDANT", "evidence": "Same."}).status_code == 422
    values = {"reason": "REDUNDANT", "evidence": "Same as before.", "records": [str(record.pk)]}
    assert "is told and may appeal" in judge.post(url, values, follow=True).content.decode()
    slash = Slash.objects.get()
    me = browser(contributor)
    page = me.get(slash.get_absolute_url()).content.decode()
    assert "bond of <strong>1 OPEN</strong>" in page
    me.post(reverse("datanets:appeal-slash", args=[slash.pk]), {"text": "No."})
    desk = browser(staff)
    assert "Read and decide" in desk.get(reverse("datanets:moderation")).content.decode()
    desk.post(
        reverse("datanets:decide-slash", args=[slash.pk]), {"upheld": "no", "statement": "Fine."}
    )
    slash.refresh_from_db()
    assert slash.state == "OVERTURNED"
    assert "Fine." in me.get(slash.get_absolute_url()).content.decode()


def test_the_addresses_answer_to_their_people_alone(
    proposed: Slash, browser: Browser, stranger: User, reviewer: User, contributor: User
) -> None:
    for step, people in (("appeal", (reviewer,)), ("decide", (reviewer, contributor))):
        url = reverse(f"datanets:{step}-slash", args=[proposed.pk])
        assert browser().post(url).status_code == 302
        assert browser(stranger).post(url).status_code == 404
        assert [browser(u).post(url, {"text": "a"}).status_code for u in people] == [403] * len(
            people
        )
        assert browser(contributor).get(url).status_code == 405
    back = reverse("datanets:withdraw-slash", args=[proposed.pk])
    assert browser(contributor).post(back).status_code == 403
    propose_url = reverse("datanets:propose-slash", args=[proposed.staked.contribution_id])
    assert browser().get(propose_url).status_code == 302
    assert browser(stranger).get(propose_url).status_code == 404
    assert browser(contributor).get(propose_url).status_code == 403
    withdraw = reverse("datanets:withdraw-contribution", args=[proposed.staked.contribution_id])
    assert [browser(u).post(withdraw).status_code for u in (stranger, reviewer)] == [404, 404]
    proposed.refresh_from_db()
    assert proposed.state == "PROPOSED"
    assert not Record.objects.filter(state="WITHDRAWN").exists()


def test_the_api_proposes_appeals_and_decides(
    staked: Contribution, browser: Browser, contributor: User, reviewer: User, stranger: User,
    staff: User,
) -> None:  # fmt: skip
    base = f"/api/v1/contributions/{staked.pk}"
    stake = browser(contributor).get(f"{base}/stake/").json()
    assert (stake["amount"], stake["left"], stake["biased_bps"]) == (
        str(2 * OPEN),
        str(2 * OPEN),
        2_500,
    )
    assert browser(stranger).get(f"{base}/stake/").status_code == 404
    record = str(Record.objects.earliest("id").pk)
    body = {"reason": "BIASED", "evidence": "It is.", "records": [record]}
    sent = count()

    def post(user: User, url: str, body: Any) -> Any:
        return browser(user).post(
            url,
            body,
            content_type="application/json",
            headers={"Idempotency-Key": f"request {next(sent)}"},
        )

    assert post(stranger, f"{base}/slashes/", body).status_code == 404
    assert post(contributor, f"{base}/slashes/", body).status_code == 403
    answer = post(reviewer, f"{base}/slashes/", body)
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert (made["amount"], made["records"]) == (str(OPEN // 2), [record])
    again = post(reviewer, f"{base}/slashes/", body)
    assert (again.status_code, again.json()["code"]) == (409, "STATE")
    url = f"/api/v1/slashes/{made['id']}"
    assert post(reviewer, f"{url}/appeal/", {"text": "x"}).status_code == 403
    appealed = post(contributor, f"{url}/appeal/", {"text": "Wrong."})
    assert (appealed.status_code, appealed.json()["state"]) == (200, "APPEALED")
    verdict = {"upheld": True, "statement": "It is biased."}
    assert post(contributor, f"{url}/decision/", verdict).status_code == 403
    decided = post(staff, f"{url}/decision/", verdict)
    assert (decided.status_code, decided.json()["state"]) == (200, "UPHELD")
    assert [row["id"] for row in browser().get("/api/v1/slashes/").json()["results"]] == [
        made["id"]
    ]


def test_beat_executes_and_returns(proposed: Slash, reviewer: User) -> None:
    reviews.accept_records(datanet=proposed.datanet, acting_user=reviewer, at=NOON)
    with time_machine.travel(NOON + 4 * WINDOW, tick=False):
        tasks.settle_stakes()
    proposed.refresh_from_db()
    assert proposed.state == "EXECUTED"
    assert proposed.staked.stake.state == "CLOSED"
