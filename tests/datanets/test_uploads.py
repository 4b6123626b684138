"""Resumable uploads speak tus 1.0, count every byte once and keep to the day's limits."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.blobs import read_bytes
from accounts.models import User
from datanets.errors import DatanetError
from datanets.models import Contribution, Datanet, Upload
from datanets.services import uploads

from .conftest import ROWS, run_tasks

TUS = {"Tus-Resumable": "1.0.0"}
CHUNK = "application/offset+octet-stream"


class Tus:
    """A small tus client over the test client."""

    def __init__(self, client: Client, datanet: Datanet) -> None:
        self.client = client
        self.create_url = reverse("datanets:uploads", args=[datanet.slug])
        self.url = ""

    def create(self, size: int, name: str = "items.jsonl", **headers: str) -> Any:
        metadata = f"filename {base64.b64encode(name.encode()).decode()},filetype dGV4dA=="
        response = self.client.post(
            self.create_url,
            headers={**TUS, "Upload-Length": str(size), "Upload-Metadata": metadata, **headers},
        )
        self.url = response.headers.get("Location", "").removeprefix("http://testserver")
        return response

    def patch(self, offset: int, data: bytes, content_type: str = CHUNK, **headers: str) -> Any:
        return self.client.patch(
            self.url,
            data,
            content_type=content_type,
            headers={**TUS, "Upload-Offset": str(offset), **headers},
        )

    def offset(self) -> int:
        return int(self.client.head(self.url, headers=TUS)["Upload-Offset"])


@pytest.fixture
def tus(published: Datanet, contributor: User, browser: Callable[..., Client]) -> Tus:
    return Tus(browser(contributor), published)


@pytest.fixture
def content(jsonl: Callable[..., Path]) -> bytes:
    return jsonl(ROWS).read_bytes()


def test_chunks_become_a_contribution_with_the_very_bytes(
    tus: Tus, content: bytes, django_capture_on_commit_callbacks: Any
) -> None:
    created = tus.create(len(content))
    assert (created.status_code, created["Tus-Resumable"]) == (201, "1.0.0")
    assert "Upload-Expires" in created
    for start in range(0, len(content), 100):
        answer = tus.patch(start, content[start : start + 100])
        assert answer.status_code == 204
        assert int(answer["Upload-Offset"]) == min(start + 100, len(content))
    contribution = Contribution.objects.get()
    assert answer["OpenLedger-Contribution"] == contribution.get_absolute_url()
    again = tus.client.head(tus.url, headers=TUS)
    assert again["OpenLedger-Contribution"] == contribution.get_absolute_url()
    with django_capture_on_commit_callbacks(execute=True):
        run_tasks()
    contribution.refresh_from_db()
    assert contribution.state == "MAPPING"
    assert read_bytes(contribution.file_id) == content
    assert not any(default_storage.listdir(f"uploads/{Upload.objects.get().pk}"))


def test_an_offset_that_is_not_the_next_changes_nothing(tus: Tus, content: bytes) -> None:
    tus.create(len(content))
    tus.patch(0, content[:50])
    for wrong in (0, 49, 51):
        assert tus.patch(wrong, content[50:60]).status_code == 409
    assert tus.offset() == 50


def test_two_requests_for_one_place_do_not_mix(
    published: Datanet, contributor: User, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now()
    upload = uploads.start_upload(
        datanet=published, name="a.jsonl", size=20, acting_user=contributor, at=now
    )
    stale = Upload.objects.get(pk=upload.pk)
    uploads.append_chunk(upload=upload, offset=0, data=b"a" * 10, at=now)
    with pytest.raises(DatanetError) as caught:
        uploads.append_chunk(upload=stale, offset=0, data=b"b" * 10, at=now)
    assert caught.value.code == "OFFSET"
    assert [part.size for part in upload.parts.all()] == [10]
    _, files = default_storage.listdir(f"uploads/{upload.pk}")
    assert len(files) == 1


@pytest.mark.parametrize(
    ("headers", "content_type", "status"),
    [
        ({"Tus-Resumable": "0.2.2"}, CHUNK, 412),
        ({}, "application/json", 415),
        ({"Upload-Offset": "-1"}, CHUNK, 400),
        ({"Upload-Offset": "x"}, CHUNK, 400),
    ],
)
def test_a_chunk_that_is_not_tus_is_refused(
    tus: Tus, content: bytes, headers: dict[str, str], content_type: str, status: int
) -> None:
    tus.create(len(content))
    assert tus.patch(0, b"x", content_type, **headers).status_code == status
    assert tus.offset() == 0


def test_more_than_was_announced_is_refused(tus: Tus) -> None:
    tus.create(5)
    assert tus.patch(0, b"x" * 6).status_code == 413
    assert tus.offset() == 0


@pytest.mark.parametrize(
    ("size", "name", "status", "word"),
    [
        (0, "a.jsonl", 400, "empty"),
        (6_000_000, "a.jsonl", 413, "5,000,000"),
        (10, "a.exe", 400, ".exe"),
        (10, "", 400, "ending"),
    ],
)
def test_what_cannot_be_taken_is_refused_before_a_byte_is_sent(
    tus: Tus, size: int, name: str, status: int, word: str
) -> None:
    answer = tus.create(size, name)
    assert (answer.status_code, word in answer.content.decode()) == (status, True)
    assert not Upload.objects.exists()


@pytest.mark.parametrize("length", ["", "-5", "ten", "9" * 30])
def test_a_length_that_is_no_number_is_refused(tus: Tus, length: str) -> None:
    assert tus.create(1, **{"Upload-Length": length}).status_code == 400


@pytest.mark.parametrize(
    "name", ["../../etc/passwd.jsonl", "..\\..\\a.jsonl", "/x/a.jsonl", "a\n\0.jsonl"]
)
def test_a_name_is_only_ever_a_name(tus: Tus, name: str) -> None:
    assert tus.create(5, name).status_code == 201
    kept = Upload.objects.get().name
    assert "/" not in kept
    assert "\\" not in kept
    assert kept.isprintable()


def test_termination_throws_the_parts_away(
    tus: Tus, content: bytes, django_capture_on_commit_callbacks: Any
) -> None:
    tus.create(len(content))
    tus.patch(0, content[:50])
    with django_capture_on_commit_callbacks(execute=True):
        assert tus.client.delete(tus.url, headers=TUS).status_code == 204
    assert tus.client.head(tus.url, headers=TUS).status_code == 410
    assert tus.patch(50, content[50:]).status_code == 410
    assert default_storage.listdir(f"uploads/{Upload.objects.get().pk}")[1] == []


def test_what_nobody_continues_expires(tus: Tus, content: bytes) -> None:
    tus.create(len(content))
    tus.patch(0, content[:50])
    Upload.objects.update(expires_at=timezone.now())
    assert tus.patch(50, content[50:]).status_code == 410
    assert uploads.expire_uploads(at=timezone.now()) == 1
    assert Upload.objects.get().state == "EXPIRED"
    assert not Upload.objects.get().parts.exists()


def test_what_is_spoken_is_told(tus: Tus) -> None:
    answer = tus.client.options(tus.create_url)
    assert answer["Tus-Version"] == "1.0.0"
    assert set(answer["Tus-Extension"].split(",")) == {"creation", "expiration", "termination"}


def test_the_days_limits_hold_and_are_shown(tus: Tus, settings: Any, owner: User,
                                            published: Datanet) -> None:  # fmt: skip
    settings.UPLOAD_USER_DAY_BYTES = 1_000
    settings.UPLOAD_DATANET_DAY_BYTES = 1_500
    assert tus.create(800).status_code == 201
    refused = tus.create(300)
    assert (refused.status_code, "200" in refused.content.decode()) == (429, True)
    page = tus.client.get(reverse("datanets:contribute", args=[published.slug]))
    assert page.context["quota"].user_bytes_left == 200
    left = uploads.quota(user=owner, datanet=published, at=timezone.now())
    assert left.largest_file == 700
    settings.UPLOAD_USER_DAY_FILES = 1
    assert tus.create(10).status_code == 429


def test_a_cancelled_upload_gives_its_share_back(tus: Tus, settings: Any) -> None:
    settings.UPLOAD_USER_DAY_BYTES = 1_000
    tus.create(900)
    tus.client.delete(tus.url, headers=TUS)
    assert tus.create(900).status_code == 201


def test_without_scripts_the_form_takes_the_whole_file(
    tus: Tus, published: Datanet, jsonl: Callable[..., Path]
) -> None:
    url = reverse("datanets:contribute", args=[published.slug])
    with jsonl(ROWS).open("rb") as file:
        answer = tus.client.post(url, {"file": file})
    assert answer["Location"] == Contribution.objects.get().get_absolute_url()
    with jsonl(ROWS, "a.exe").open("rb") as file:
        answer = tus.client.post(url, {"file": file}, follow=True)
    assert "Upload a file that ends in" in answer.content.decode()
    assert "Choose a file first" in tus.client.post(url, follow=True).content.decode()


def test_forged_requests_are_refused(published: Datanet, contributor: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(contributor)
    url = reverse("datanets:uploads", args=[published.slug])
    assert client.post(url, headers={**TUS, "Upload-Length": "5"}).status_code == 403
