"""The log takes each receipt once, in order, and signs only what grew out of what it signed."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from unittest.mock import patch
from uuid import uuid4

import pytest
from django.core.files.storage import default_storage
from django.db import connection

from accounts.models import OutboxMessage
from attribution.models.log import Checkpoint, LogLeaf
from attribution.services import log
from attribution.translog import merkle
from attribution.translog.__main__ import main
from attribution.translog.checkpoint import VerifierKey, open_checkpoint
from tests.attribution.log_helpers import NOON, ORIGIN, append, body_of, own_store, signed

__all__ = ["own_store"]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_store")]


def test_a_receipt_is_queued_once_and_the_sequencer_called() -> None:
    (receipt_id,) = append(1)
    log.append_receipt(receipt_id=receipt_id, body=body_of(receipt_id), at=NOON)
    leaf = LogLeaf.objects.get()
    assert leaf.index is None
    assert leaf.leaf_hash == merkle.leaf_hash(bytes(leaf.data)).hex()
    assert OutboxMessage.objects.get().task == "attribution.tasks.sequence_log"


def test_a_receipt_cannot_be_queued_with_another_body() -> None:
    (receipt_id,) = append(1)
    with pytest.raises(log.ReceiptChangedError):
        log.append_receipt(receipt_id=receipt_id, body={"id": "other"}, at=NOON)


def test_leaves_get_their_place_in_order_and_the_head_covers_them() -> None:
    ids, head = signed(5)
    leaves = list(LogLeaf.objects.order_by("index"))
    assert [leaf.receipt_id for leaf in leaves] == ids
    assert [leaf.index for leaf in leaves] == [0, 1, 2, 3, 4]
    assert (head.sequence, head.size) == (1, 5)
    assert head.root == merkle.root(bytes(leaf.data) for leaf in leaves).hex()
    opened = open_checkpoint(head.note, [VerifierKey.parse(head.log_key)], ORIGIN)
    assert (opened.size, opened.root.hex()) == (5, head.root)


def test_nothing_waiting_signs_nothing() -> None:
    assert log.sequence(at=NOON) is None
    signed(1)
    assert log.sequence(at=NOON) is None
    assert Checkpoint.objects.count() == 1


def test_heads_follow_one_another_and_each_is_a_prefix_of_the_next() -> None:
    _, first = signed(3)
    _, second = signed(300)
    assert (second.sequence, second.size) == (2, 303)
    proof = [bytes.fromhex(step) for step in log.consistency(3, 303)]
    merkle.verify_consistency(3, 303, proof, bytes.fromhex(first.root), bytes.fromhex(second.root))


def test_many_waiting_leaves_are_taken_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "BATCH", 4)
    _, head = signed(10)
    assert (head.size, Checkpoint.objects.count()) == (10, 3)


def test_a_damaged_store_is_never_signed_over() -> None:
    signed(3)
    default_storage.delete("log/tile/0/000.p/3")
    default_storage.save("log/tile/0/000.p/3", default_storage.open("log/tile/entries/000.p/3"))
    append(1)
    with pytest.raises((log.LogDamagedError, ValueError)):
        log.sequence(at=NOON)
    assert LogLeaf.objects.filter(index__isnull=True).count() == 1
    assert Checkpoint.objects.count() == 1


def test_a_rewritten_history_is_never_signed_over() -> None:
    signed(3)
    Checkpoint.objects.update(root="00" * 32)
    append(1)
    with pytest.raises(log.LogDamagedError):
        log.sequence(at=NOON)


def test_a_crash_between_tiles_and_commit_loses_and_doubles_nothing() -> None:
    signed(2)
    ids = append(2)
    with (
        patch.object(log, "_sign", side_effect=RuntimeError("killed")),
        pytest.raises(RuntimeError),
    ):
        log.sequence(at=NOON)
    assert LogLeaf.objects.filter(index__isnull=True).count() == 2
    LogLeaf.objects.filter(receipt_id=ids[0]).delete()
    _, head = signed(1)
    assert head.size == 4
    leaves = LogLeaf.objects.order_by("index")
    assert head.root == merkle.root(bytes(leaf.data) for leaf in leaves).hex()


def test_the_bundle_of_a_receipt_is_verified_offline(tmp_path: Path) -> None:
    ids, head = signed(7)
    bundle = log.inclusion_bundle(ids[4])
    assert bundle
    bundle["receipt"] = body_of(ids[4])
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps(bundle))
    assert main(["verify", str(file), "--key", head.log_key]) == 0
    bundle["receipt"] = body_of(ids[3])
    file.write_text(json.dumps(bundle))
    assert main(["verify", str(file), "--key", head.log_key]) == 1


def test_a_waiting_or_unknown_receipt_has_no_bundle() -> None:
    (waiting,) = append(1)
    assert log.inclusion_bundle(waiting) is None
    assert log.inclusion_bundle(uuid4()) is None


def test_a_bundle_prefers_the_first_anchored_head() -> None:
    ids, first = signed(2)
    signed(2)
    bundle = log.inclusion_bundle(ids[0])
    assert bundle
    assert (bundle["size"], bundle["anchor"]["state"]) == (4, "RECORDED")
    Checkpoint.objects.filter(pk=first.pk).update(state="ANCHORED", anchor_requested_at=NOON)
    bundle = log.inclusion_bundle(ids[0])
    assert bundle
    assert (bundle["size"], bundle["anchor"]["state"]) == (2, "ANCHORED")


@pytest.mark.django_db(transaction=True)
def test_two_sequencers_at_once_give_each_place_once() -> None:
    append(40)
    heads: list[Checkpoint | None] = []

    def run() -> None:
        try:
            heads.append(log.sequence(at=NOON))
        finally:
            connection.close()

    workers = [threading.Thread(target=run) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sum(head is not None for head in heads) == 1
    indexes = LogLeaf.objects.order_by("index").values_list("index", flat=True)
    assert list(indexes) == list(range(40))
