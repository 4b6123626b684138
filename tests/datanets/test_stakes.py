"""A stake with a contribution: quoted, locked with it or not at all, given back in time."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.test import Client
from django.urls import reverse

from accounts.models import Notification, User
from datanets import stakes
from datanets.errors import DatanetError
from datanets.models import Contribution, ContributionStake, Datanet, Record
from datanets.services import contributions, imports, moderation, reviews, staking
from governance import selectors as governance
from ledger.models import Account, Deposit, Stake
from ledger.reconciliation import check_ledger
from ledger.services.deposits import undo_deposit
from tests.ledger.books import OPEN, balance_of, fund, hold_for

from .conftest import NOON, ROWS, run_tasks

Browser = Callable[..., Client]
DAY = timedelta(days=1)


@pytest.fixture
def asking(published: Datanet, owner: User) -> Datanet:
    staking.set_stake_amount(datanet=published, amount=2 * OPEN, acting_user=owner, at=NOON)
    return published


@pytest.fixture
def ready(asking: Datanet, contributor: User, jsonl: Any) -> Contribution:
    """Six checked rows, not submitted."""
    contribution = imports._start(asking, jsonl(ROWS), contributor, NOON)
    run_tasks()
    contribution.refresh_from_db()
    contributions.set_mapping(
        contribution=contribution,
        mapping=contribution.preview["mapping"],
        acting_user=contributor,
        at=NOON,
    )
    run_tasks()
    contribution.refresh_from_db()
    return contribution


@pytest.fixture
def staked(asking: Datanet, contributor: User, jsonl: Any) -> Contribution:
    fund(contributor, 10 * OPEN)
    return imports.import_file(datanet=asking, path=jsonl(ROWS), acting_user=contributor, at=NOON)


def spendable(user: User) -> int:
    return balance_of(Account.Kind.USER, user.pk)


def govern(monkeypatch: pytest.MonkeyPatch, **values: int) -> None:
    """Have other governed values in force, as after a proposal."""
    before = governance.current_parameters()
    changed = {**before.values, **{key.replace("__", "."): value for key, value in values.items()}}
    after = governance.Parameters(before.version + 1, before.split, changed)
    monkeypatch.setattr(staking, "current_parameters", lambda: after)
    monkeypatch.setattr(stakes, "current_parameters", lambda: after)


def test_a_datanet_asks_for_nothing_until_its_owner_says_so(
    submitted: Contribution, contributor: User
) -> None:
    assert stakes.offer(submitted.datanet, contributor) is None
    assert not Stake.objects.exists()


def test_a_stake_is_at_least_the_governed_minimum(
    published: Datanet, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DatanetError) as caught:
        staking.set_stake_amount(datanet=published, amount=OPEN - 1, acting_user=owner, at=NOON)
    assert "at least 1 OPEN" in caught.value.message
    staking.set_stake_amount(datanet=published, amount=OPEN, acting_user=owner, at=NOON)
    govern(monkeypatch, stake__contribution_min=3 * OPEN)
    assert staking.terms_in_force(published).amount == 3 * OPEN
    staking.set_stake_amount(datanet=published, amount=0, acting_user=owner, at=NOON)
    assert staking.terms_in_force(published).amount == 0


def test_the_owner_alone_sets_it(
    published: Datanet, reviewer: User, owner: User, stranger: User, browser: Browser
) -> None:
    url = reverse("datanets:stakes", args=[published.slug])
    assert browser().post(url, {"amount": "5"}).status_code == 302
    assert browser(stranger).post(url, {"amount": "5"}).status_code == 403
    assert browser(reviewer).post(url, {"amount": "5"}).status_code == 403
    with pytest.raises(PermissionDenied):
        staking.set_stake_amount(datanet=published, amount=OPEN, acting_user=reviewer, at=NOON)
    assert browser(owner).post(url, {"amount": "0.5"}, follow=True).status_code == 200
    published.refresh_from_db()
    assert published.stake_amount == 0
    browser(owner).post(url, {"amount": "5"})
    published.refresh_from_db()
    assert published.stake_amount == 5 * OPEN
    assert browser(owner).post(url, {"amount": "-1"}).status_code == 422
    browser(owner).post(url, {"amount": ""})
    published.refresh_from_db()
    assert published.stake_amount == 0


def test_by_api_everybody_reads_the_terms_and_the_owner_sets_the_amount(
    published: Datanet, reviewer: User, owner: User, stranger: User, browser: Browser
) -> None:
    url = reverse("api-datanet-stake", args=[published.slug])

    def put(who: Client, amount: Any) -> int:
        return who.put(url, {"amount": amount}, content_type="application/json").status_code

    assert put(browser(), str(OPEN)) in (401, 403)
    assert [put(browser(user), str(OPEN)) for user in (stranger, reviewer)] == [403, 403]
    mine = browser(owner)
    refused = ["-1", 1, 1.5, "1.5", "1e18", str(2**256), "9" * 5_000, None, str(OPEN - 1)]
    assert [put(mine, amount) for amount in refused] == [400] * len(refused)
    assert mine.post(url).status_code == 405
    assert browser().get(url).json()["amount"] == "0"
    assert put(mine, str(5 * OPEN)) == 200
    told = browser().get(url).json()
    assert (told["amount"], told["least"]) == (str(5 * OPEN), str(OPEN))
    assert told["parts"].keys() == {"REDUNDANT", "BIASED", "ADVERSARIAL"}
    Datanet.objects.update(state="DRAFT")
    assert (browser(stranger).get(url).status_code, put(browser(stranger), "0")) == (404, 404)


def test_who_owes_for_a_vanished_deposit_cannot_stake(
    ready: Contribution, contributor: User
) -> None:
    fund(contributor, 10 * OPEN)
    hold_for(contributor, OPEN)
    (seen,) = Deposit.objects.values("chain_id", "tx_hash", "log_index")
    undo_deposit(**seen, at=NOON)
    with pytest.raises(DatanetError, match="Spending is blocked: 1 OPEN are owed") as caught:
        submit(ready, contributor)
    assert caught.value.code == "BLOCKED"
    offered = stakes.offer(ready.datanet, contributor)
    assert offered is not None
    assert (offered.owed, offered.short_by) == (OPEN, 3 * OPEN)


def test_the_page_shows_the_terms_before_submitting_and_submits_with_the_stake(
    ready: Contribution, contributor: User, browser: Browser
) -> None:
    me = browser(contributor)
    page = me.get(ready.get_absolute_url()).content.decode()
    assert "stake of <strong>2 OPEN</strong>" in page
    assert "2 OPEN are missing" in page
    fund(contributor, 10 * OPEN)
    page = me.get(ready.get_absolute_url()).content.decode()
    assert f'name="stake" value="{2 * OPEN}"' in page
    assert "10 %" in page
    assert "7 days to appeal" in page
    assert "14 days after" in page
    submit = reverse("datanets:submit", args=[ready.pk])
    me.post(submit, {"licence": "CC-BY-4.0", "consent": "yes", "stake": str(2 * OPEN)})
    assert spendable(contributor) == 8 * OPEN
    assert run_tasks() == 2  # the submission, and the search for what is near it
    ready.refresh_from_db()
    assert ready.state == "SUBMITTED"
    page = me.get(ready.get_absolute_url()).content.decode()
    assert "records wait for theirs" in page


def test_without_the_money_nothing_is_submitted(ready: Contribution, contributor: User) -> None:
    with pytest.raises(DatanetError) as caught:
        submit(ready, contributor)
    assert caught.value.code == "FUNDS"
    assert "Deposit OPEN" in caught.value.message
    ready.refresh_from_db()
    assert ready.state == "READY"
    assert not ContributionStake.objects.exists()


def test_a_stake_that_changed_since_the_page_is_asked_for_anew(
    ready: Contribution, contributor: User, owner: User
) -> None:
    fund(contributor, 10 * OPEN)
    staking.set_stake_amount(datanet=ready.datanet, amount=3 * OPEN, acting_user=owner, at=NOON)
    ready.refresh_from_db()
    with pytest.raises(DatanetError) as caught:
        submit(Contribution.objects.get(pk=ready.pk), contributor, agreed_stake=2 * OPEN)
    assert caught.value.code == "STAKE"
    assert spendable(contributor) == 10 * OPEN
    ready.refresh_from_db()
    assert ready.state == "READY"


def test_the_owner_brings_records_without_a_stake(asking: Datanet, owner: User, jsonl: Any) -> None:
    imports.import_file(datanet=asking, path=jsonl(ROWS), acting_user=owner, at=NOON)
    assert not Stake.objects.exists()


def test_it_comes_back_when_the_records_are_decided_and_the_window_is_over(
    staked: Contribution, contributor: User, owner: User
) -> None:
    assert spendable(contributor) == 8 * OPEN
    assert staking.return_due_stakes(at=NOON + 100 * DAY) == 0
    reviews.accept_records(datanet=staked.datanet, acting_user=owner, at=NOON + DAY)
    assert staking.return_due_stakes(at=NOON + 15 * DAY - timedelta(seconds=1)) == 0
    standing = stakes.standing(staked)
    assert standing is not None
    assert standing.returns_at == NOON + 15 * DAY
    assert staking.return_due_stakes(at=NOON + 15 * DAY) == 1
    assert staking.return_due_stakes(at=NOON + 15 * DAY) == 0
    assert spendable(contributor) == 10 * OPEN
    told = Notification.objects.get(user=contributor, kind="datanets.stake_returned")
    assert told.title.startswith("2 OPEN of your stake")
    assert all(finding.holds for finding in check_ledger())


def test_a_verdict_taken_back_keeps_it_locked(staked: Contribution, owner: User) -> None:
    batch = reviews.accept_records(datanet=staked.datanet, acting_user=owner, at=NOON)
    assert batch is not None
    reviews.undo_review(batch=batch, acting_user=owner, at=NOON)
    assert staking.return_due_stakes(at=NOON + 100 * DAY) == 0


def test_whoever_withdraws_everything_has_it_back_at_once(
    staked: Contribution, contributor: User, browser: Browser
) -> None:
    first = Record.objects.earliest("id")
    moderation.withdraw_record(record=first, acting_user=contributor, at=NOON)
    assert staking.return_due_stakes(at=NOON + DAY) == 0
    url = reverse("datanets:withdraw-contribution", args=[staked.pk])
    browser(contributor).post(url)
    assert set(Record.objects.values_list("state", flat=True)) == {"WITHDRAWN"}
    from django.utils import timezone

    assert staking.return_due_stakes(at=timezone.now()) == 1
    assert spendable(contributor) == 10 * OPEN


def test_a_datanet_that_was_taken_down_keeps_no_stake_for_verdicts_that_never_come(
    staked: Contribution, contributor: User
) -> None:
    Datanet.objects.update(state="TAKEN_DOWN")
    assert staked.submitted_at is not None
    over = staked.submitted_at + 14 * DAY
    assert staking.return_due_stakes(at=over - timedelta(seconds=1)) == 0
    assert staking.return_due_stakes(at=over) == 1
    assert spendable(contributor) == 10 * OPEN


def test_a_submission_whose_worker_was_lost_gives_it_back_and_may_stake_again(
    ready: Contribution, contributor: User
) -> None:
    fund(contributor, 10 * OPEN)
    submit(ready, contributor)
    contributions.fail(ready.pk, "The worker stopped answering.", NOON)
    assert spendable(contributor) == 10 * OPEN
    ready.refresh_from_db()
    contributions.retry_contribution(contribution=ready, acting_user=contributor, at=NOON)
    run_tasks()
    ready.refresh_from_db()
    contributions.set_mapping(
        contribution=ready, mapping=ready.preview["mapping"], acting_user=contributor, at=NOON
    )
    run_tasks()
    ready.refresh_from_db()
    submit(ready, contributor)
    run_tasks()
    assert spendable(contributor) == 8 * OPEN
    assert ContributionStake.objects.count() == 2


def test_what_is_decided_later_never_reaches_back(
    staked: Contribution, owner: User, reviewer: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    govern(
        monkeypatch,
        slash__biased_bps=9_000,
        slash__appeal_seconds=60,
        stake__return_seconds=60,
        slash__bond=9 * OPEN,
    )
    standing = stakes.standing(staked)
    assert standing is not None
    fixed = standing.staked
    assert (fixed.biased_bps, fixed.appeal_seconds, fixed.bond) == (2_500, 7 * 86_400, OPEN)
    reviews.accept_records(datanet=staked.datanet, acting_user=owner, at=NOON)
    assert staking.return_due_stakes(at=NOON + DAY) == 0
    with pytest.raises(Exception, match="Cannot update"):
        ContributionStake.objects.update(biased_bps=9_000)


def submit(contribution: Contribution, acting_user: User, **changes: Any) -> None:
    contributions.submit_contribution(
        contribution=contribution,
        licence="CC-BY-4.0",
        consent=True,
        acting_user=acting_user,
        at=NOON,
        **changes,
    )
