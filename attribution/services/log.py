"""Writes of the receipt log: queue a leaf, give leaves their place, sign heads; and its proofs.

Leaves are queued in the transaction of the receipt and get their index later, from one sequencer
at a time (an advisory lock). A checkpoint is signed only over tiles that stand in the object store
and only where the previous checkpoint is a prefix of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, LiteralString
from uuid import UUID

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.utils import timezone

from accounts import events, outbox
from accounts.ids import uuid7
from attribution.models.log import Checkpoint, LogLeaf
from attribution.services.anchoring import anchor_newest, anchor_of
from attribution.translog import canonical, merkle
from attribution.translog.checkpoint import SigningKey, load_or_create_key
from attribution.translog.log import Head, Log

BUNDLE_FORMAT = "openledger-receipt/1"
LEAF_KIND = "receipt"
SEQUENCER_LOCK = 0x0617_106
BATCH = 2048


class ReceiptChangedError(ValueError):
    """The receipt or statement is in the log already, with another body."""


class LogDamagedError(RuntimeError):
    """What the object store holds is not what was signed. Nothing more is signed over it."""


class LogStore:
    """The log's files in the object store, under `log/`."""

    prefix = "log/"

    def read(self, path: str) -> bytes:
        with default_storage.open(self.prefix + path, "rb") as file:
            return bytes(file.read())

    def write(self, path: str, data: bytes) -> None:
        name = self.prefix + path
        if default_storage.exists(name):
            if self.read(path) == data:
                return
            default_storage.delete(name)
        default_storage.save(name, ContentFile(data))


def receipt_log() -> Log:
    return Log(LogStore(), settings.LOG_ORIGIN)


def log_key() -> SigningKey:
    """The key that signs checkpoints. Only the process that sequences may ask for it."""
    return load_or_create_key(settings.LOG_KEY_PATH, settings.LOG_ORIGIN)


def append_receipt(*, receipt_id: UUID, body: Mapping[str, Any], at: datetime) -> LogLeaf:
    """Queue a receipt for the log; see `append_receipts`."""
    return append_receipts(bodies={receipt_id: body}, at=at)[receipt_id]


def append_receipts(
    *, bodies: Mapping[UUID, Mapping[str, Any]], at: datetime
) -> dict[UUID, LogLeaf]:
    """Queue receipts for the log, in the caller's transaction; a second call changes nothing.

    A body is the whole receipt as JSON. The log carries only its hash, so that a leaf is small
    whatever the number of contributors, and a receipt's body can be withdrawn by law while the log
    stays whole. Raises ReceiptChangedError where a receipt was queued with another body,
    CanonicalError where a body has no canonical form.
    """
    append_hashes(hashes={one: canonical.sha256(dict(body)) for one, body in bodies.items()}, at=at)
    return {leaf.receipt_id: leaf for leaf in LogLeaf.objects.filter(receipt_id__in=bodies)}


def append_hashes(*, hashes: Mapping[UUID, str], at: datetime) -> dict[UUID, str]:
    """The same where the bodies' SHA-256 are known; returns the hashes of the leaves.

    Three statements, whatever the number of receipts. Raises ReceiptChangedError.
    """
    return _queue({one: _leaf_data(one, sha256) for one, sha256 in hashes.items()}, at)


def append_statement(
    *, kind: str, subject_id: UUID, body: Mapping[str, Any], at: datetime
) -> LogLeaf:
    """Queue another statement than a receipt, such as the root of an index or what an audit found.

    `inclusion_bundle` proves it by its `subject_id`, and verifiers read its body under `statement`.
    Raises as `append_receipts`.
    """
    leaf = {"kind": kind, "subject": str(subject_id), "sha256": canonical.sha256(dict(body))}
    _queue({subject_id: canonical.dumps(leaf)}, at)
    return LogLeaf.objects.get(receipt_id=subject_id)


QUEUE: Final[LiteralString] = """
INSERT INTO attribution_logleaf (id, created_at, receipt_id, data, leaf_hash)
SELECT id, %s, receipt_id, data, leaf_hash
FROM unnest(%s::uuid[], %s::uuid[], %s::bytea[], %s::varchar[]) AS l (
    id, receipt_id, data, leaf_hash
)
ON CONFLICT DO NOTHING
"""


def _queue(data: Mapping[UUID, bytes], at: datetime) -> dict[UUID, str]:
    hashes = {one: merkle.leaf_hash(leaf).hex() for one, leaf in data.items()}
    ids = [uuid7() for _ in data]
    with connection.cursor() as cursor:
        cursor.execute(
            QUEUE, [timezone.now(), ids, list(data), list(data.values()), list(hashes.values())]
        )
        written = cursor.rowcount
    if written < len(data):
        _check_known(data)
    if written:
        # No key: a message that another, uncommitted transaction has written would swallow
        # this one, and the sequencer would run before these leaves are visible.
        outbox.enqueue(task="attribution.tasks.sequence_log", args=[], queue="attribute", at=at)
    return hashes


def _check_known(data: Mapping[UUID, bytes]) -> None:
    """Raises ReceiptChangedError where something stands in the log with another body."""
    rows = LogLeaf.objects.filter(receipt_id__in=data).values_list("receipt_id", "data")
    for receipt_id, stated in rows:
        if bytes(stated) != data[receipt_id]:
            raise ReceiptChangedError(f"{receipt_id} is in the log with another body")


def _leaf_data(receipt_id: UUID, sha256: str) -> bytes:
    return canonical.dumps({"kind": LEAF_KIND, "receipt": str(receipt_id), "sha256": sha256})


def sequence(*, at: datetime) -> Checkpoint | None:
    """Give every waiting leaf its index and sign the new head; None where none was waiting.

    Raises LogDamagedError where the stored tree is not the one that was signed last.
    """
    newest = None
    while (signed := sequence_batch(at=at)) is not None:
        newest = signed
    return newest


def sequence_batch(*, at: datetime) -> Checkpoint | None:
    """The same for as many as one head takes at a time (BATCH)."""
    with transaction.atomic():
        _take_sequencer_lock()
        leaves = list(LogLeaf.objects.filter(index__isnull=True).order_by("id")[:BATCH])
        if not leaves:
            return None
        _check_leaves(leaves)
        previous = Checkpoint.objects.order_by("-size").first()
        head = _append(previous, [bytes(leaf.data) for leaf in leaves])
        first = head.size - len(leaves)
        _place(leaves, first, at)
        checkpoint = _sign(head, previous.sequence + 1 if previous else 1, at=at)
        events.emit(
            "attribution.checkpoint_signed",
            {"checkpoint_id": str(checkpoint.id), "size": head.size, "root": checkpoint.root},
            at=at,
        )
        anchor_newest(at=at)
        return checkpoint


def _place(leaves: list[LogLeaf], first: int, at: datetime) -> None:
    """One statement with two lists: a CASE of two thousand branches takes the server seconds."""
    table = connection.ops.quote_name(LogLeaf._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f'UPDATE {table} AS leaf SET "index" = placed.place, sequenced_at = %s '
            "FROM unnest(%s::uuid[], %s::bigint[]) AS placed (id, place) "
            "WHERE leaf.id = placed.id",
            [at, [leaf.pk for leaf in leaves], list(range(first, first + len(leaves)))],
        )


def _take_sequencer_lock() -> None:
    # Waits for the other sequencer: one that gave up instead could miss a leaf whose commit fell
    # between the other's reading and its commit.
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [SEQUENCER_LOCK])


def _check_leaves(leaves: list[LogLeaf]) -> None:
    """That what waits is what was queued. Raises LogDamagedError."""
    for leaf in leaves:
        if merkle.leaf_hash(bytes(leaf.data)).hex() != leaf.leaf_hash:
            raise LogDamagedError(f"the leaf of receipt {leaf.receipt_id} was changed as it waited")


def _append(previous: Checkpoint | None, entries: list[bytes]) -> Head:
    """Write the entries behind the previous head; the new head, shown to contain the old one."""
    log = receipt_log()
    size = previous.size if previous else 0
    if previous and log.head(size).root.hex() != previous.root:
        raise LogDamagedError(f"the stored tree of {size} leaves is not the one that was signed")
    head = log.append(size, entries)
    if previous:
        proof = log.consistency_proof(size, head.size)
        old_root = bytes.fromhex(previous.root)
        merkle.verify_consistency(size, head.size, proof, old_root, head.root)
    return head


def _sign(head: Head, number: int, *, at: datetime) -> Checkpoint:
    key = log_key()
    log = receipt_log()
    note = log.sign(head, [key])
    checkpoint = Checkpoint.objects.create(
        sequence=number,
        size=head.size,
        root=head.root.hex(),
        note=note,
        log_key=str(key.verifier),
        signed_at=at,
    )
    transaction.on_commit(lambda: log.publish(note))
    return checkpoint


def inclusion_bundle(receipt_id: UUID, *, names: UUID | None = None) -> dict[str, Any] | None:
    """What shows that a receipt is in the log; None while it waits for its place.

    The head is the first anchored one that contains the leaf, else the newest, with the proof that
    the last anchored one before is a prefix of it. `names` is another receipt that this one names:
    its place under the same head comes with it. The caller adds the bodies;
    `python -m attribution.translog verify` reads the whole.
    """
    leaf = LogLeaf.objects.filter(receipt_id=receipt_id, index__isnull=False).first()
    if leaf is None or leaf.index is None:
        return None
    heads = Checkpoint.objects.filter(size__gt=leaf.index)
    anchored = Checkpoint.objects.filter(state=Checkpoint.State.ANCHORED)
    head = heads.filter(pk__in=anchored).order_by("size").first() or heads.order_by("-size").first()
    assert head is not None, "a sequenced leaf has a checkpoint"
    bundle = {
        "format": BUNDLE_FORMAT,
        **_place_of(leaf, head),
        "size": head.size,
        "checkpoint": head.note,
        "log_key": head.log_key,
        "anchor": anchor_of(head),
    }
    if head.state != Checkpoint.State.ANCHORED:
        before = anchored.filter(size__lt=head.size).order_by("-size").first()
        if before is not None:
            bundle["consistency"] = {
                "checkpoint": before.note,
                "proof": consistency(before.size, head.size),
                "anchor": anchor_of(before),
            }
    if names is not None:
        named = LogLeaf.objects.get(receipt_id=names, index__isnull=False)
        bundle["named"] = _place_of(named, head)
    return bundle


def _place_of(leaf: LogLeaf, head: Checkpoint) -> dict[str, Any]:
    assert leaf.index is not None
    proof = receipt_log().inclusion_proof(leaf.index, head.size)
    return {
        "leaf": canonical.loads(bytes(leaf.data)),
        "index": leaf.index,
        "proof": [step.hex() for step in proof],
    }


def consistency(first: int, second: int) -> list[str]:
    """Consistency proof between two sizes, as hex; ValueError unless 0 < first <= second."""
    return [step.hex() for step in receipt_log().consistency_proof(first, second)]
