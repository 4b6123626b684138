"""Work belongs to one worker at a time, and comes back from a worker that died."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import connection, transaction
from pytest_django.fixtures import Settings

from accounts import leases
from modelfactory.models import BaseModel

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
LEASE = timedelta(seconds=30)
pytestmark = pytest.mark.django_db


@pytest.fixture
def work() -> BaseModel:
    return BaseModel.objects.create(slug="base", name="Base", origin="/nowhere")


@pytest.fixture
def swept(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, UUID]]:
    """Watches BaseModel alone, and writes down what the sweeper did."""
    told: list[tuple[str, UUID]] = []

    def requeue(pk: UUID, at: datetime) -> None:
        BaseModel.objects.filter(pk=pk).update(state="REQUESTED", lease_expires_at=None)
        told.append(("requeued", pk))

    def fail(pk: UUID, reason: str, at: datetime) -> None:
        BaseModel.objects.filter(pk=pk).update(state="FAILED", failure_reason=reason)
        told.append(("failed", pk))

    monkeypatch.setattr(leases, "_sweepable", [])
    leases.register(BaseModel, running_states=["CHECKING"], requeue=requeue, fail=fail)
    return told


def claim(work: BaseModel, owner: str, at: datetime = NOON) -> bool:
    return leases.claim(
        BaseModel, work.pk, from_states=["REQUESTED"], to_state="CHECKING", owner=owner, at=at,
        lease=LEASE,
    )  # fmt: skip


def test_only_the_first_claim_holds(work: BaseModel) -> None:
    assert claim(work, "one")
    assert not claim(work, "two")
    work.refresh_from_db()
    assert (work.lease_owner, work.attempts) == ("one", 1)


@pytest.mark.django_db(transaction=True)
def test_whoever_commits_after_a_claim_that_may_be_lost_waits_for_the_disk(
    work: BaseModel,
) -> None:
    def take(owner: str) -> bool:
        return leases.claim(
            BaseModel, work.pk, from_states=["REQUESTED", "CHECKING"], to_state="CHECKING",
            owner=owner, at=NOON, may_be_lost=True,
        )  # fmt: skip

    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit TO local")
    assert take("one")
    assert setting() == "local"
    with transaction.atomic():
        assert take("two")
        assert setting() == "local"
    assert setting() == "local"


def setting() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        return str(cursor.fetchone()[0])


def test_a_heartbeat_renews_the_owner_s_lease_only(work: BaseModel) -> None:
    claim(work, "one")
    later = NOON + timedelta(seconds=20)
    assert leases.heartbeat(BaseModel, work.pk, owner="one", at=later, lease=LEASE)
    assert not leases.heartbeat(BaseModel, work.pk, owner="two", at=later, lease=LEASE)
    work.refresh_from_db()
    assert work.lease_expires_at == later + LEASE


def test_only_the_owner_finishes(work: BaseModel) -> None:
    claim(work, "one")
    assert not leases.finish(BaseModel, work.pk, owner="two", to_state="READY")
    assert leases.finish(BaseModel, work.pk, owner="one", to_state="READY")
    work.refresh_from_db()
    assert (work.state, work.lease_owner, work.lease_expires_at) == ("READY", "", None)


def test_a_living_lease_is_left_alone(work: BaseModel, swept: list[tuple[str, UUID]]) -> None:
    claim(work, "one")
    assert leases.sweep(at=NOON + LEASE) == 0
    assert swept == []


def test_a_dead_worker_s_work_comes_back(work: BaseModel, swept: list[tuple[str, UUID]]) -> None:
    claim(work, "one")
    assert leases.sweep(at=NOON + LEASE + timedelta(seconds=1)) == 1
    assert swept == [("requeued", work.pk)]
    assert claim(work, "two")


def test_after_the_last_attempt_it_fails_with_a_reason(
    work: BaseModel, swept: list[tuple[str, UUID]], settings: Settings
) -> None:
    settings.WORK_ATTEMPTS = 3
    at = NOON
    for attempt in range(3):
        assert claim(work, f"worker {attempt}", at)
        at += LEASE + timedelta(seconds=1)
        leases.sweep(at=at)
    assert [what for what, _ in swept] == ["requeued", "requeued", "failed"]
    work.refresh_from_db()
    assert work.state == "FAILED"
    assert "3 times" in work.failure_reason


def test_a_row_that_cannot_be_put_back_does_not_hold_up_the_others(
    work: BaseModel, swept: list[tuple[str, UUID]], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = BaseModel.objects.create(slug="broken", name="Broken", origin="/nowhere")
    claim(broken, "one", NOON - LEASE)
    claim(work, "one")
    requeue = leases._sweepable[0].requeue

    def fail_on_broken(pk: UUID, at: datetime) -> None:
        if pk == broken.pk:
            raise RuntimeError
        requeue(pk, at)

    monkeypatch.setattr(leases, "_sweepable", [])
    leases.register(BaseModel, running_states=["CHECKING"], requeue=fail_on_broken, fail=print)
    assert leases.sweep(at=NOON + 2 * LEASE) == 1
    assert swept == [("requeued", work.pk)]
