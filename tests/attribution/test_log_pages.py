"""Strangers read the log by its page and by the paths of C2SP tlog-tiles."""

from __future__ import annotations

from datetime import timedelta
from unittest.mock import patch

import pytest
from django.core.files.storage import default_storage
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoCaptureOnCommitCallbacks

from accounts import pages
from accounts.ids import uuid7
from attribution.models.log import Checkpoint
from attribution.services import log
from attribution.translog import merkle
from attribution.translog.tiles import decode_bundle
from ledger.models import Intent
from tests.attribution.log_helpers import NOON, append, intents, own_store, settle, signed

__all__ = ["intents", "own_store"]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_store")]


def test_the_log_reads_as_tlog_tiles(
    client: Client, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        _, head = signed(260)
    note = client.get("/log/checkpoint")
    assert note["Content-Type"] == "text/plain; charset=utf-8"
    assert note.content.decode() == head.note
    assert default_storage.open("log/checkpoint").read().decode() == head.note

    full = client.get("/log/tile/0/000")
    assert full["Content-Type"] == "application/octet-stream"
    assert "immutable" in full["Cache-Control"]
    assert len(full.content) == 8192
    entries = decode_bundle(client.get("/log/tile/entries/000").content)
    entries += decode_bundle(client.get("/log/tile/entries/001.p/4").content)
    hashes = full.content + client.get("/log/tile/0/001.p/4").content
    assert b"".join(merkle.leaf_hash(entry) for entry in entries) == hashes
    assert merkle.root(entries).hex() == head.root
    top = client.get("/log/tile/1/000.p/1").content
    assert top == merkle.root(entries[:256])


def test_rooms_below_find_a_checkpoint_by_its_id(client: Client) -> None:
    _, head = signed(2)
    shown = client.get(pages.url("checkpoint", head.pk)).content.decode()
    assert head.root in shown
    assert 'data-truth="RECORDED"' in shown
    assert pages.url("checkpoint", uuid7()) == ""


@pytest.mark.parametrize(
    "path",
    [
        "0/001.p/5",
        "0/001",
        "1/000",
        "0/000.p/7",
        "0/0",
        "64/000",
        "entries/../../keys",
        "0/000.p/256",
        "..%2f..%2fkeys%2flog.ed25519",
    ],
)
def test_what_the_log_does_not_have_is_not_found(client: Client, path: str) -> None:
    signed(260)
    assert client.get(f"/log/tile/{path}").status_code == 404


def test_an_unpublished_tile_is_not_shown(client: Client) -> None:
    signed(2)
    append(2)
    with (
        patch.object(log, "_sign", side_effect=RuntimeError("killed")),
        pytest.raises(RuntimeError),
    ):
        log.sequence(at=NOON)
    assert default_storage.exists("log/tile/0/000.p/4")
    assert client.get("/log/tile/0/000.p/4").status_code == 404


def test_an_empty_log_has_a_page_and_no_checkpoint(client: Client) -> None:
    assert "The log is empty" in client.get(reverse("attribution:log")).content.decode()
    assert client.get("/log/checkpoint").status_code == 404
    assert client.get("/log/tile/0/000").status_code == 404


def test_the_page_tells_heads_and_how_far_they_are_anchored(
    client: Client, intents: list[Intent]
) -> None:
    for _ in range(3):
        _, head = signed(1)
    settle(intents[0], Intent.State.FINAL)
    settle(intents[1], Intent.State.FINAL)
    page = client.get(reverse("attribution:log")).content.decode()
    assert head.root in page
    assert head.log_key in page.replace("&#x2B;", "+")
    assert page.count("ANCHORED") == 2
    assert page.count("COVERED") == 1


def test_proofs_between_signed_sizes_are_given_and_no_others(client: Client) -> None:
    signed(2)
    signed(3)
    assert client.get("/log/consistency/2/5").json()["proof"] == log.consistency(2, 5)
    assert client.get("/log/consistency/5/5").json()["proof"] == []
    for path in ["1/5", "5/2", "0/5", "2/6"]:
        assert client.get(f"/log/consistency/{path}").status_code == 404
    assert client.get("/log/checkpoint/2").status_code == 200
    assert client.get("/log/checkpoint/3").status_code == 404


@pytest.mark.parametrize("path", ["", "checkpoint", "tile/0/000.p/1", "consistency/1/1"])
def test_the_log_is_only_read(client: Client, path: str) -> None:
    signed(1)
    assert client.head(f"/log/{path}").status_code == 200
    assert client.post(f"/log/{path}").status_code == 405


def test_an_anchor_that_is_long_on_its_way_blocks_no_reading(
    client: Client, intents: list[Intent]
) -> None:
    signed(1)
    Checkpoint.objects.update(anchor_requested_at=NOON - timedelta(days=1))
    assert "SUBMITTED" in client.get(reverse("attribution:log")).content.decode()
