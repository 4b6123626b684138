"""Reports, takedowns with a statement, withdrawal: what is shown after, and to whom."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.test import Client
from django.urls import reverse

from accounts import events
from accounts.models import AuditEvent, Notification, OutboxMessage, User
from datanets.errors import DatanetError
from datanets.models import Contribution, Datanet, Record, RecordText, Report
from datanets.selectors import version_records
from datanets.services import datanets as services
from datanets.services import imports, moderation, versions

from .conftest import NOON, ROWS

Browser = Callable[..., Client]


@pytest.fixture
def record(accepted: Contribution) -> Record:
    found = Record.objects.order_by("row").first()
    assert found is not None
    return found


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("record_taken_down", "record_withdrawn", "datanet_taken_down"):
        monkeypatch.setitem(events._subscribers, f"datanets.{name}", [(f"x.{name}", "default")])


def test_anyone_reports_and_is_told_the_decision(
    browser: Browser, record: Record, stranger: User, staff: User
) -> None:
    url = reverse("datanets:report-record", args=[record.pk])
    me = browser(stranger)
    assert "Choose what is wrong" in me.post(url, follow=True).content.decode()
    me.post(url, {"reason": "PERSONAL_DATA", "text": "A name in it."})
    twice = me.post(url, {"reason": "SPAM"}, follow=True).content.decode()
    assert "reported this already" in twice
    report = Report.objects.get()
    assert Notification.objects.filter(user=staff, kind="datanets.reported").count() == 1
    desk = browser(staff)
    assert "A name in it." in desk.get(reverse("datanets:moderation")).content.decode()
    resolve = reverse("datanets:resolve-report", args=[report.pk])
    desk.post(resolve, {"upheld": "yes", "statement": ""})
    assert Report.objects.get().state == "OPEN"
    desk.post(resolve, {"upheld": "yes", "statement": "You are right."})
    assert Report.objects.get().state == "UPHELD"
    assert Notification.objects.get(user=stranger).body == "You are right."
    me.post(reverse("datanets:report", args=[record.datanet.slug]), {"reason": "SPAM"})
    assert Report.objects.filter(record=None).count() == 1


def test_a_record_taken_down_keeps_its_address_and_loses_its_text(
    browser: Browser, record: Record, staff: User, contributor: User, heard: None
) -> None:
    text = record.payload["messages"][1]["content"]
    url = reverse("datanets:take-down-record", args=[record.pk])
    browser(staff).post(url, {"statement": "It names a patient."})
    page = browser().get(record.get_absolute_url())
    assert page.status_code == 410
    assert "It names a patient." in page.content.decode()
    assert text not in page.content.decode()
    assert text in browser(contributor).get(record.get_absolute_url()).content.decode()
    assert browser().get(f"/api/v1/records/{record.pk}/").json()["payload"] is None
    listed = browser().get(reverse("datanets:records", args=[record.datanet.slug]))
    assert text not in listed.content.decode()
    assert Notification.objects.filter(user=contributor, body="It names a patient.").exists()
    assert AuditEvent.objects.filter(verb="record.taken_down").exists()
    assert OutboxMessage.objects.get(task="x.record_taken_down").args[0]["record_id"] == str(
        record.pk
    )


def test_a_text_that_was_taken_down_does_not_come_back(
    record: Record, staff: User, contributor: User, jsonl: Any
) -> None:
    moderation.take_down_record(record=record, statement="No.", acting_user=staff, at=NOON)
    with pytest.raises(DatanetError) as caught:
        imports.import_file(
            datanet=record.datanet, path=jsonl(ROWS[:1]), acting_user=contributor, at=NOON
        )
    assert "taken down" in caught.value.message


@pytest.mark.parametrize("state", ["WITHDRAWN", "TAKEN_DOWN"])
def test_search_does_not_spell_out_a_withheld_text(
    record: Record, state: str, contributor: User, stranger: User, staff: User, owner: User,
    browser: Browser,
) -> None:  # fmt: skip
    Record.objects.filter(pk=record.pk).update(state=state)
    slug = record.datanet.slug

    def found(user: User | None, words: str) -> list[int]:
        asked = {"state": state, "q": words}
        page = browser(user).get(f"/datanets/{slug}/records/", asked)
        api = browser(user).get(f"/api/v1/datanets/{slug}/records/", asked)
        return [page.context["page"].paginator.count, api.json()["count"]]

    for user in (None, stranger, owner):
        assert found(user, "item") == found(user, "absent") == [0, 0]
        assert found(user, "") == [1, 1]
    for user in (contributor, staff):
        assert (found(user, "item"), found(user, "absent")) == ([1, 1], [0, 0])


def test_a_withheld_text_leaves_the_search(record: Record, contributor: User, staff: User) -> None:
    moderation.withdraw_record(record=record, acting_user=contributor, at=NOON)
    assert not RecordText.objects.filter(record=record).exists()
    other = Record.objects.exclude(pk=record.pk).earliest("id")
    moderation.take_down_record(record=other, statement="Private.", acting_user=staff, at=NOON)
    assert not RecordText.objects.filter(record=other).exists()
    assert RecordText.objects.count() == Record.objects.count() - 2


def test_a_contributor_withdraws_and_the_text_may_come_again(
    browser: Browser, record: Record, contributor: User, jsonl: Any, heard: None
) -> None:
    browser(contributor).post(reverse("datanets:withdraw-record", args=[record.pk]))
    record.refresh_from_db()
    assert record.state == "WITHDRAWN"
    assert OutboxMessage.objects.filter(task="x.record_withdrawn").count() == 1
    again = imports.import_file(
        datanet=record.datanet, path=jsonl(ROWS[:1]), acting_user=contributor, at=NOON
    )
    assert again.rows_good == 1
    with pytest.raises(DatanetError):
        moderation.withdraw_record(record=record, acting_user=contributor, at=NOON)


def test_an_owner_withdraws_for_people_without_a_login_alone(
    published: Datanet, owner: User, contributor: User, jsonl: Any
) -> None:
    rows = [{**ROWS[0], "by": "Ann"}]
    imports.import_file(
        datanet=published, path=jsonl(rows), acting_user=owner, at=NOON, contributor_column="by"
    )
    moderation.withdraw_record(record=Record.objects.get(), acting_user=owner, at=NOON)
    assert Record.objects.get().state == "WITHDRAWN"
    imports.import_file(datanet=published, path=jsonl(ROWS[1:2]), acting_user=contributor, at=NOON)
    theirs = Record.objects.get(contributor=contributor)
    with pytest.raises(PermissionDenied):
        moderation.withdraw_record(record=theirs, acting_user=owner, at=NOON)


def test_a_version_keeps_its_root_when_a_text_is_withheld(
    browser: Browser, record: Record, owner: User, contributor: User
) -> None:
    version = versions.publish_version(datanet=record.datanet, acting_user=owner, at=NOON)
    moderation.withdraw_record(record=record, acting_user=contributor, at=NOON)
    url = version.get_absolute_url()
    lines = [json.loads(line) for line in b"".join(browser().get(url + "records.jsonl"))
             .splitlines()]  # fmt: skip
    assert len(lines) == 6
    withheld = [line for line in lines if line["payload"] is None]
    assert [line["record"] for line in withheld] == [str(record.pk)]
    assert withheld[0]["content_hash"] == record.content_hash
    assert "withdrawn or taken down since" in browser().get(url).content.decode()
    assert str(record.pk) not in {str(row[0]) for row in version_records(version.pk)}
    following = versions.publish_version(datanet=record.datanet, acting_user=owner, at=NOON)
    assert (following.record_count, following.root != version.root) == (5, True)


def test_a_datanet_taken_down_shows_the_statement_and_nothing_else(
    browser: Browser, record: Record, staff: User, owner: User, contributor: User, heard: None
) -> None:
    datanet = record.datanet
    url = reverse("datanets:take-down", args=[datanet.pk])
    browser(staff).post(url, {"statement": ""})
    assert browser().get(datanet.get_absolute_url()).status_code == 200
    browser(staff).post(url, {"statement": "Court order 7."})
    for name in ("card", "records", "versions", "people", "contribute"):
        page = browser().get(reverse(f"datanets:{name}", args=[datanet.slug]))
        assert (page.status_code, "Court order 7." in page.content.decode()) == (410, True)
    assert browser().get(record.get_absolute_url()).status_code == 404
    assert datanet not in browser().get("/datanets/").context["page"].object_list
    assert browser(owner).get(datanet.get_absolute_url()).status_code == 200
    assert browser(contributor).get(
        reverse("datanets:contribute", args=[datanet.slug])
    ).status_code in (403, 410)
    datanet.refresh_from_db()
    for attempt in (
        lambda: versions.publish_version(datanet=datanet, acting_user=owner, at=NOON),
        lambda: services.edit_datanet(
            datanet=datanet, changes={"name": "X"}, acting_user=owner, at=NOON
        ),
        lambda: services.take_down_datanet(
            datanet=datanet, statement="again", acting_user=staff, at=NOON
        ),
    ):
        with pytest.raises(DatanetError):
            attempt()
    assert OutboxMessage.objects.filter(task="x.datanet_taken_down").count() == 1


def test_only_staff_take_down(record: Record, owner: User) -> None:
    with pytest.raises(PermissionDenied):
        moderation.take_down_record(record=record, statement="x", acting_user=owner, at=NOON)
    with pytest.raises(PermissionDenied):
        services.take_down_datanet(
            datanet=record.datanet, statement="x", acting_user=owner, at=NOON
        )
