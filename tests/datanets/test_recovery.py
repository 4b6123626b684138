"""A worker that dies leaves nothing behind; another one does the step again, twice at most."""

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from accounts import leases
from accounts.models import AuditEvent, Notification, OutboxMessage, User
from datanets.errors import DatanetError
from datanets.models import Contribution, Datanet, Record, VersionBuild
from datanets.services import checking, contributions, submission, versions
from datanets.services.lifelines import lifeline

from .conftest import NOON, ROWS, run_tasks

LATER = NOON + timedelta(hours=1)


@pytest.fixture
def uploaded(published: Datanet, contributor: User, jsonl: Callable[..., Path]) -> Contribution:
    from accounts.blobs import put_file

    contribution = contributions.start_contribution(
        datanet=published, name="a.jsonl", size=1, acting_user=contributor, at=NOON
    )
    contribution.file = put_file(jsonl(ROWS), "application/jsonl")
    contribution.save()
    return contribution


def advance(contribution: Contribution, state: str) -> None:
    """Walk the steps up to a state that waits for a worker."""
    if state == "UPLOADED":
        return
    run_tasks()
    contribution.refresh_from_db()
    contributions.set_mapping(
        contribution=contribution,
        mapping=contribution.preview["mapping"],
        acting_user=contribution.submitter,
        at=NOON,
    )
    if state == "QUEUED":
        return
    run_tasks()
    contribution.refresh_from_db()
    contributions.submit_contribution(
        contribution=contribution,
        licence="CC-BY-4.0",
        consent=True,
        acting_user=contribution.submitter,
        at=NOON,
    )


STEPS = {
    "UPLOADED": ("PREVIEWING", "MAPPING"),
    "QUEUED": ("CHECKING", "READY"),
    "SUBMISSION_QUEUED": ("SUBMITTING", "SUBMITTED"),
}


@pytest.mark.parametrize("waiting", STEPS)
def test_a_lost_step_is_done_again(uploaded: Contribution, waiting: str) -> None:
    during, after = STEPS[waiting]
    advance(uploaded, waiting)
    OutboxMessage.objects.all().delete()
    assert leases.claim(Contribution, uploaded.pk, from_states=[waiting], to_state=during,
                        owner="killed", at=NOON)  # fmt: skip
    assert leases.sweep(at=LATER) == 1
    uploaded.refresh_from_db()
    assert uploaded.state == waiting
    # The step, and after records came the comparison of what they say.
    assert run_tasks() == (2 if after == "SUBMITTED" else 1)
    uploaded.refresh_from_db()
    assert uploaded.state == after
    assert Record.objects.count() == (6 if after == "SUBMITTED" else 0)


@pytest.mark.parametrize("waiting", STEPS)
def test_three_deaths_are_a_failure_with_a_reason(
    uploaded: Contribution, waiting: str, settings: Any
) -> None:
    during, _ = STEPS[waiting]
    advance(uploaded, waiting)
    for _ in range(settings.WORK_ATTEMPTS):
        assert leases.claim(Contribution, uploaded.pk, from_states=[waiting], to_state=during,
                            owner="killed", at=NOON)  # fmt: skip
        leases.sweep(at=LATER)
    uploaded.refresh_from_db()
    assert (uploaded.state, uploaded.failure_code) == ("FAILED", "WORKER")
    assert "start this again" in uploaded.failure_reason
    assert not Record.objects.exists()
    told = Notification.objects.get(kind="datanets.contribution_failed")
    assert (told.user, told.url) == (uploaded.submitter, uploaded.get_absolute_url())
    assert told.body == uploaded.failure_reason
    OutboxMessage.objects.all().delete()
    contributions.retry_contribution(
        contribution=uploaded, acting_user=uploaded.submitter, at=LATER
    )
    assert run_tasks() == 1
    uploaded.refresh_from_db()
    assert uploaded.state == "MAPPING"
    with pytest.raises(DatanetError):
        contributions.retry_contribution(
            contribution=uploaded, acting_user=uploaded.submitter, at=LATER
        )


def test_who_lost_the_lease_writes_nothing(
    uploaded: Contribution, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance(uploaded, "SUBMISSION_QUEUED")
    known = submission.known_hashes

    def overtaken(datanet: Datanet) -> Any:
        Contribution.objects.filter(pk=uploaded.pk).update(lease_owner="another")
        return known(datanet)

    monkeypatch.setattr(submission, "known_hashes", overtaken)
    with pytest.raises(checking.LeaseLost):
        submission.write_records(contribution_id=uploaded.pk)
    assert not Record.objects.exists()


def test_a_message_that_comes_twice_is_done_once(uploaded: Contribution) -> None:
    advance(uploaded, "SUBMISSION_QUEUED")
    assert submission.write_records(contribution_id=uploaded.pk)
    assert not submission.write_records(contribution_id=uploaded.pk)
    assert not checking.check_contribution(contribution_id=uploaded.pk)
    assert not checking.preview_contribution(contribution_id=uploaded.pk)
    assert Record.objects.count() == 6


def test_a_lost_build_is_built_again(accepted: Contribution, owner: User) -> None:
    build = versions.request_version(datanet=accepted.datanet, acting_user=owner, at=NOON)
    OutboxMessage.objects.all().delete()
    leases.claim(VersionBuild, build.pk, from_states=["QUEUED"], to_state="BUILDING",
                 owner="killed", at=NOON)  # fmt: skip
    leases.sweep(at=LATER)
    assert run_tasks() == 1
    build.refresh_from_db()
    assert build.state == "DONE"


def test_a_build_that_is_lost_for_good_is_told_and_kept(
    accepted: Contribution, owner: User, settings: Any
) -> None:
    build = versions.request_version(datanet=accepted.datanet, acting_user=owner, at=NOON)
    for _ in range(settings.WORK_ATTEMPTS):
        leases.claim(VersionBuild, build.pk, from_states=["QUEUED"], to_state="BUILDING",
                     owner="killed", at=NOON)  # fmt: skip
        leases.sweep(at=LATER)
    build.refresh_from_db()
    assert build.state == "FAILED"
    told = Notification.objects.get(user=owner, kind="datanets.version_failed")
    assert told.body == build.failure_reason
    kept = AuditEvent.objects.get(verb="version.failed")
    assert kept.data == {"build": str(build.pk), "reason": build.failure_reason}


def test_a_build_without_news_is_told_and_kept(accepted: Contribution, owner: User) -> None:
    for _ in range(2):
        versions.request_version(datanet=accepted.datanet, acting_user=owner, at=NOON)
        run_tasks()
    told = Notification.objects.get(user=owner, kind="datanets.version_failed")
    assert "Nothing has changed" in told.body
    assert AuditEvent.objects.filter(verb="version.failed").count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_long_step_keeps_its_lease_and_a_killed_one_does_not(
    uploaded: Contribution, settings: Any
) -> None:
    settings.WORK_LEASE = timedelta(seconds=0.6)
    now = timezone.now()
    leases.claim(Contribution, uploaded.pk, from_states=["UPLOADED"], to_state="PREVIEWING",
                 owner="me", at=now)  # fmt: skip
    with lifeline(Contribution, uploaded.pk, owner="me"):
        time.sleep(1)
        assert leases.sweep(at=timezone.now()) == 0
    assert leases.sweep(at=timezone.now() + timedelta(seconds=1)) == 1
