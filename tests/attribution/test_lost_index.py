"""An index whose files are lost or altered is built again, and answers wait for it meanwhile."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone

from accounts.models import AuditEvent, Blob
from attribution import index_files, scorers, workers
from attribution.index_files import LostIndexError
from attribution.models import Attribution, Index, Receipt
from attribution.services import indexes, receipts

DAY = timedelta(days=1)
SHOWN = "records.jsonl"


@pytest.fixture
def index(indexed):
    """Made a day ago, and on no machine."""
    Index.objects.update(ready_at=timezone.now() - DAY)
    found = Index.objects.get()
    forget_here(found)
    return found


def cache_of(index) -> Path:
    from django.conf import settings

    return Path(settings.DATA_DIR) / "cache" / "indexes" / index.root


def forget_here(index) -> None:
    """As on a machine that has not answered for this model yet."""
    scorers.clear()
    shutil.rmtree(cache_of(index), ignore_errors=True)


def damage(index, how: str, name: str = SHOWN) -> str:
    """The path of the file in the store."""
    path = Blob(sha256=index.manifest["files"][name]["sha256"]).path
    with default_storage.open(path) as stream:
        data = stream.read()
    default_storage.delete(path)
    if how == "altered":  # a bit, so that its size says nothing
        default_storage.save(path, ContentFile(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:]))
    elif how == "cut short":
        default_storage.save(path, ContentFile(data[:-1]))
    return path


def attributed(asked) -> Attribution:
    workers.attribute(asked.pk)
    asked.refresh_from_db()
    return asked


@pytest.mark.parametrize("how", ["lost", "altered", "cut short"])
def test_it_is_built_again_and_the_answer_waits_for_it(indexed, index, how):
    damage(index, how)
    asked = indexed.ask()
    assert attributed(asked).state == "QUEUED"
    index.refresh_from_db()
    assert index.state == "QUEUED"
    told = AuditEvent.objects.get(verb="attribution.index_lost")
    assert (told.data["root"], told.data["state"]) == (index.root, "QUEUED")

    assert attributed(asked).state == "QUEUED"  # looked at again, before it is built
    root = index.root
    workers.build_index(index.pk)
    index.refresh_from_db()
    assert (index.state, index.root) == ("READY", root)
    forget_here(index)
    assert attributed(asked).state == "DONE"
    assert Receipt.objects.get(attribution=asked).public["index_root"] == root


def test_one_that_was_lost_soon_after_it_was_made_is_not_built_for_ever(indexed, index):
    Index.objects.update(ready_at=timezone.now() - timedelta(minutes=50))
    damage(index, "lost")
    asked = attributed(indexed.ask())
    index.refresh_from_db()
    assert (index.state, "has lost it" in index.failure_reason) == ("FAILED", True)
    asked = attributed(asked)
    assert (asked.state, asked.lacks_index) == ("FAILED", True)
    assert index.failure_reason in asked.failure_reason
    # Whoever asks for it anew gets it, and the answer goes on by itself.
    indexes.request_index(model_id=index.model_id, acting_user=None, at=timezone.now())
    workers.build_index(index.pk)
    asked.refresh_from_db()
    assert (asked.state, asked.lacks_index) == ("QUEUED", False)
    assert attributed(asked).state == "DONE"


def test_a_copy_that_is_damaged_here_alone_is_fetched_again(indexed, index):
    asked, other = indexed.ask(), indexed.ask()
    assert attributed(asked).state == "DONE"
    scorers.clear()
    copy = cache_of(index) / SHOWN
    copy.write_bytes(copy.read_bytes()[:-1])
    assert attributed(other).state == "DONE"
    assert not AuditEvent.objects.filter(verb="attribution.index_lost").exists()
    index.refresh_from_db()
    assert index.state == "READY"


def test_a_store_that_is_away_loses_no_index(indexed, index):
    store = Path(default_storage.location)
    store.rename(store.with_name("elsewhere"))
    asked = attributed(indexed.ask())
    index.refresh_from_db()
    assert (index.state, asked.state, asked.lacks_index) == ("READY", "FAILED", False)
    assert "it is away" in asked.failure_reason
    store.with_name("elsewhere").rename(store)
    receipts.try_again(attribution_id=asked.pk, at=timezone.now())
    assert attributed(asked).state == "DONE"


def test_what_does_not_fit_its_name_leaves_the_store(index):
    path = damage(index, "altered")
    with pytest.raises(LostIndexError):
        index_files.open_index(index)
    assert not default_storage.exists(path)
    others = [one for name, one in index.manifest["files"].items() if name != SHOWN]
    assert all(default_storage.exists(Blob(sha256=one["sha256"]).path) for one in others)


def test_a_copy_that_comes_out_damaged_costs_the_store_nothing(index, monkeypatch):
    """A bad disk here, say: the store's file is as it was."""
    real = index_files._copy

    def damaged(name, sha256, to):
        real(name, sha256, to)
        if name == SHOWN:
            to.write_bytes(to.read_bytes()[:-1])

    monkeypatch.setattr(index_files, "_copy", damaged)
    with pytest.raises(LostIndexError):
        index_files.open_index(index)
    files = [one["sha256"] for one in index.manifest["files"].values()]
    assert all(default_storage.exists(Blob(sha256=one).path) for one in files)


def test_only_the_index_that_was_lost_is_built_again(index):
    at = timezone.now()
    indexes.lose(index_id=index.pk, root="0" * 64, reason="It is gone.", at=at)
    index.refresh_from_db()
    assert index.state == "READY"
    indexes.lose(index_id=index.pk, root=index.root, reason="It is gone.", at=at)
    indexes.lose(index_id=index.pk, root=index.root, reason="It is gone.", at=at)
    assert AuditEvent.objects.filter(verb="attribution.index_lost").count() == 1


def test_who_has_lost_the_claim_puts_nothing_back(indexed, index):
    asked = indexed.ask()
    at = timezone.now()
    assert receipts.claim(attribution_id=asked.pk, owner="new", at=at)
    receipts.begin_again(attribution_id=asked.pk, owner="old", at=at)
    asked.refresh_from_db()
    assert (asked.state, asked.lease_owner) == ("RUNNING", "new")
