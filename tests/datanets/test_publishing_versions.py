"""Versions are numbered, immutable, differ visibly, and hold what the manifest says."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import ProgrammingError, transaction
from django.test import Client
from django.urls import reverse

from accounts.blobs import read_bytes
from accounts.models import Notification, User
from datanets.errors import DatanetError
from datanets.models import Contribution, Datanet, Record, Version, VersionBuild, VersionRecord
from datanets.services import imports, reviews, versions

from .conftest import NOON, ROWS, run_tasks
from .ingest.test_versions import stranger_root

Browser = Callable[..., Client]


def test_the_owner_publishes_in_the_browser_and_a_stranger_checks_the_root(
    browser: Browser, accepted: Contribution, owner: User, contributor: User
) -> None:
    url = reverse("datanets:versions", args=[accepted.datanet.slug])
    client = browser(owner)
    client.post(url + "publish/", {"note": "The first six"})
    assert VersionBuild.objects.get().state == "QUEUED"
    assert "hx-trigger" in client.get(url).content.decode()
    run_tasks()
    assert VersionBuild.objects.get().state == "DONE"
    version = Version.objects.get()
    records = b"".join(browser().get(version.get_absolute_url() + "records.jsonl"))
    manifest = json.loads(b"".join(browser().get(version.get_absolute_url() + "manifest.json")))
    assert version.root == manifest["root"] == stranger_root(records)
    assert manifest["records_sha256"] == hashlib.sha256(records).hexdigest()
    assert hashlib.sha256(read_bytes(version.manifest_id)).hexdigest() == version.manifest_id
    assert manifest["contributors"] == {str(contributor.pk): 6}
    assert (manifest["number"], manifest["previous_root"]) == (1, None)
    page = browser().get(version.get_absolute_url()).content.decode()
    assert version.root in page
    assert "The first six" in page
    told = Notification.objects.get(user=contributor, kind="datanets.version_published")
    assert "6 of your records" in told.title


def test_the_next_version_shows_what_changed(
    browser: Browser, accepted: Contribution, owner: User, contributor: User, jsonl: Any
) -> None:
    datanet = accepted.datanet
    first = versions.publish_version(datanet=datanet, acting_user=owner, at=NOON)
    gone = Record.objects.order_by("row").first()
    reviews.reject_records(datanet=datanet, records=[gone.pk], reason="WRONG",
                           acting_user=owner, at=NOON)  # fmt: skip
    new = [{"question": "What is new?", "answer": "This is."}]
    imports.import_file(datanet=datanet, path=jsonl(new), acting_user=contributor, at=NOON)
    reviews.accept_records(datanet=datanet, acting_user=owner, at=NOON)
    second = versions.publish_version(datanet=datanet, acting_user=owner, at=NOON)
    page = browser().get(second.get_absolute_url())
    assert [record.pk for record in page.context["removed"]] == [gone.pk]
    assert [record.payload["messages"][0]["content"] for record in page.context["added"]] == [
        "What is new?"
    ]
    assert json.loads(read_bytes(second.manifest_id))["previous_root"] == first.root
    assert first.entries.filter(record=gone).exists()


def test_positions_are_the_order_of_ids(accepted: Contribution, owner: User) -> None:
    version = versions.publish_version(datanet=accepted.datanet, acting_user=owner, at=NOON)
    kept = list(version.entries.order_by("position").values_list("record_id", "position"))
    assert kept == [(pk, n) for n, pk in enumerate(sorted(pk for pk, _ in kept))]


@pytest.mark.parametrize("model", [Version, VersionRecord])
@pytest.mark.parametrize("act", ["update", "delete"])
def test_the_database_forbids_changing_a_version(
    accepted: Contribution, owner: User, model: Any, act: str
) -> None:
    versions.publish_version(datanet=accepted.datanet, acting_user=owner, at=NOON)
    rows = VersionRecord.objects.all() if model is VersionRecord else Version.objects.all()
    values = {"position": 99} if model is VersionRecord else {"root": "0" * 64}
    with pytest.raises(ProgrammingError, match="Cannot"), transaction.atomic():
        rows.update(**values) if act == "update" else rows._raw_delete(rows.db)


def test_nothing_new_makes_no_version(accepted: Contribution, owner: User) -> None:
    versions.publish_version(datanet=accepted.datanet, acting_user=owner, at=NOON)
    with pytest.raises(DatanetError) as caught:
        versions.publish_version(datanet=accepted.datanet, acting_user=owner, at=NOON)
    assert caught.value.code == "UNCHANGED"
    versions.request_version(datanet=accepted.datanet, acting_user=owner, at=NOON)
    run_tasks()
    build = VersionBuild.objects.get()
    assert (build.state, "Nothing has changed" in build.failure_reason) == ("FAILED", True)


def test_no_accepted_record_makes_no_version(submitted: Contribution, owner: User) -> None:
    with pytest.raises(DatanetError) as caught:
        versions.request_version(datanet=submitted.datanet, acting_user=owner, at=NOON)
    assert caught.value.code == "NO_RECORDS"


def test_one_build_at_a_time(accepted: Contribution, owner: User) -> None:
    versions.request_version(datanet=accepted.datanet, acting_user=owner, at=NOON)
    with pytest.raises(DatanetError) as caught:
        versions.request_version(datanet=accepted.datanet, acting_user=owner, at=NOON)
    assert caught.value.code == "BUILDING"


def test_a_version_may_be_published_before_the_datanet_is(
    draft: Datanet, owner: User, jsonl: Any
) -> None:
    imports.import_file(datanet=draft, path=jsonl(ROWS), acting_user=owner, at=NOON)
    reviews.accept_records(datanet=draft, acting_user=owner, at=NOON)
    version = versions.publish_version(datanet=draft, acting_user=owner, at=NOON)
    assert Version.objects.usable_by(owner).get() == version
