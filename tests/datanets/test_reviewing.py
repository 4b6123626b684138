"""Verdicts reach the contributor with their reason, and can be taken back."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEvent, Notification, User
from datanets.errors import DatanetError
from datanets.models import Contribution, Record, Review
from datanets.services import reviews

from .conftest import NOON, ROWS

Browser = Callable[..., Client]


@pytest.fixture
def desk(browser: Browser, reviewer: User) -> Client:
    return browser(reviewer)


def decide(client: Client, record: Record, **values: str) -> Any:
    url = reverse("datanets:review-record", args=[record.datanet.slug, record.pk])
    return client.post(url, values, follow=True)


def states() -> list[str]:
    return list(Record.objects.order_by("row").values_list("state", flat=True))


def test_the_queue_gives_one_record_after_the_other(desk: Client, submitted: Contribution) -> None:
    url = reverse("datanets:review", args=[submitted.datanet.slug])
    for number in range(1, len(ROWS) + 1):
        record = desk.get(url).context["record"]
        assert record.row == number
        decide(desk, record, verdict="ACCEPTED")
    page = desk.get(url)
    assert page.context["record"] is None
    assert "Nothing waits for your verdict" in page.content.decode()
    assert states() == ["ACCEPTED"] * 6


def test_a_rejection_carries_its_reason_to_the_contributor(
    desk: Client, submitted: Contribution, contributor: User, browser: Browser
) -> None:
    first = Record.objects.order_by("row").first()
    assert "Choose a reason" in decide(desk, first, verdict="REJECTED").content.decode()
    assert "in the note" in decide(desk, first, verdict="REJECTED",
                                   reason="OTHER").content.decode()  # fmt: skip
    assert states() == ["PENDING"] * 6
    decide(desk, first, verdict="REJECTED", reason="UNCLEAR", note="Which item?")
    told = Notification.objects.get(user=contributor, kind="datanets.reviewed")
    assert "1 rejected" in told.title
    page = browser(contributor).get(told.url).content.decode()
    assert "The question or the answer is unclear" in page
    assert "Which item?" in page
    event = AuditEvent.objects.get(verb="records.rejected")
    assert (event.data["records"], event.data["reason"]) == (1, "UNCLEAR")


def test_notices_about_one_contribution_are_folded(
    desk: Client, submitted: Contribution, contributor: User
) -> None:
    for record in Record.objects.order_by("row")[:4]:
        decide(desk, record, verdict="ACCEPTED")
    told = Notification.objects.get(user=contributor, kind="datanets.reviewed")
    assert "4 accepted" in told.title


def test_undo_goes_back_one_verdict_at_a_time(desk: Client, submitted: Contribution) -> None:
    one, two, *_ = Record.objects.order_by("row")
    decide(desk, one, verdict="ACCEPTED")
    decide(desk, two, verdict="REJECTED", reason="WRONG")
    undo = reverse("datanets:review-undo", args=[submitted.datanet.slug])
    desk.post(undo)
    assert states()[:2] == ["ACCEPTED", "PENDING"]
    desk.post(undo)
    assert states()[:2] == ["PENDING", "PENDING"]
    assert "nothing to take back" in desk.post(undo, follow=True).content.decode()
    assert Review.objects.filter(undone_at=None).count() == 0


def test_all_at_once_is_one_act_that_can_be_undone(desk: Client, submitted: Contribution) -> None:
    url = reverse("datanets:review-all", args=[submitted.datanet.slug])
    assert "Tick the box" in desk.post(url, {"verdict": "ACCEPTED"}, follow=True).content.decode()
    desk.post(url, {"verdict": "ACCEPTED", "sure": "yes"})
    assert states() == ["ACCEPTED"] * 6
    assert AuditEvent.objects.filter(verb="records.accepted").count() == 1
    desk.post(reverse("datanets:review-undo", args=[submitted.datanet.slug]))
    assert states() == ["PENDING"] * 6


def test_a_verdict_that_comes_second_changes_nothing(
    desk: Client, submitted: Contribution, owner: User
) -> None:
    first = Record.objects.order_by("row").first()
    reviews.accept_records(
        datanet=submitted.datanet, records=[first.pk], acting_user=owner, at=NOON
    )
    answer = decide(desk, first, verdict="ACCEPTED")
    assert "Somebody else has decided" in answer.content.decode()
    assert Review.objects.count() == 1


def test_undo_leaves_what_another_verdict_followed(
    submitted: Contribution, owner: User, reviewer: User
) -> None:
    datanet, first = submitted.datanet, Record.objects.order_by("row").first()
    batch = reviews.accept_records(
        datanet=datanet, records=[first.pk], acting_user=reviewer, at=NOON
    )
    reviews.reject_records(
        datanet=datanet, records=[first.pk], reason="WRONG", acting_user=owner, at=NOON
    )
    with pytest.raises(DatanetError):
        reviews.undo_review(batch=batch, acting_user=reviewer, at=NOON)
    assert states()[0] == "REJECTED"


def test_nobody_takes_back_anothers_verdict(
    submitted: Contribution, owner: User, reviewer: User
) -> None:
    batch = reviews.accept_records(datanet=submitted.datanet, acting_user=owner, at=NOON)
    with pytest.raises(PermissionDenied):
        reviews.undo_review(batch=batch, acting_user=reviewer, at=NOON)


def test_a_reviewer_does_not_judge_their_own_records(
    submitted: Contribution, contributor: User, browser: Browser
) -> None:
    datanet = submitted.datanet
    datanet.memberships.create(user=contributor, role="REVIEWER")
    assert reviews.accept_records(datanet=datanet, acting_user=contributor, at=NOON) is None
    page = browser(contributor).get(reverse("datanets:review", args=[datanet.slug]))
    assert page.context["record"] is None
    assert states() == ["PENDING"] * 6


def test_a_stranger_gives_no_verdict(submitted: Contribution, stranger: User) -> None:
    with pytest.raises(PermissionDenied):
        reviews.accept_records(datanet=submitted.datanet, acting_user=stranger, at=NOON)


def test_the_keys_are_printed_on_the_buttons(desk: Client, submitted: Contribution) -> None:
    first = Record.objects.order_by("row").first()
    page = decide(desk, first, verdict="ACCEPTED").content.decode()
    for key in "ARU":
        assert f'<span class="kbd">{key}</span>' in page
        assert f'data-key="{key.lower()}"' in page


def test_an_accepted_record_is_taken_out_with_a_reason(
    desk: Client, accepted: Contribution, owner: User, browser: Browser
) -> None:
    record = Record.objects.order_by("row").first()
    url = reverse("datanets:remove-record", args=[record.pk])
    browser(owner).post(url, {"reason": "RIGHTS", "note": "No source"})
    assert states() == ["REJECTED", *["ACCEPTED"] * 5]
