"""The log against itself, the receipts and the chain: what `reconcile` counts as rows that differ.

Reads every leaf once: the cost grows with the log.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings
from django.db.models import OuterRef, Subquery

from attribution.models import Checkpoint, LogLeaf, Receipt, Rescoring
from attribution.services.log import LogStore, receipt_log
from attribution.translog import canonical, merkle
from attribution.translog.checkpoint import NoteError, VerifierKey, open_checkpoint
from attribution.translog.tiles import WIDTH, TileError, TileReader
from ledger.models import ChainLog
from ledger.reconciliation import Finding

CHUNK = 2_000


def check_tree() -> list[Finding]:
    """All comparisons of the log, each as a number of rows that differ."""
    newest = Checkpoint.objects.order_by("size").last()
    size = newest.size if newest else 0
    placed = LogLeaf.objects.filter(index__isnull=False)
    return [
        Finding("leaves with a place under the newest checkpoint (rows)", size, placed.count()),
        _nothing("receipts whose body is not the one in the log", _changed_receipts()),
        _nothing("entries of the stored log that are not the leaves", _changed_entries(size)),
        _nothing("checkpoints that the stored tree does not lead to", _broken_heads()),
        _nothing("anchors on the chain that are no checkpoint's", _foreign_anchors()),
    ]


def _nothing(name: str, wrong: Iterator[str]) -> Finding:
    found = list(wrong)
    return Finding(f"{name} (rows)", 0, len(found), found[0] if found else "")


def _changed_receipts() -> Iterator[str]:
    """Receipts without a leaf, or whose public part does not hash to what the leaf says."""
    leaf = LogLeaf.objects.filter(receipt_id=OuterRef("pk")).values("data")
    rescored = Rescoring.objects.filter(state=Rescoring.State.DONE)
    for found in (Receipt.objects.all(), rescored):
        rows = found.order_by("pk").values_list("pk", "public", Subquery(leaf))
        for pk, public, data in rows.iterator(chunk_size=CHUNK):
            stated = canonical.loads(bytes(data)).get("sha256") if data is not None else None
            if stated != canonical.sha256(public):
                yield f"receipt {pk}"


def _changed_entries(size: int) -> Iterator[str]:
    """Entries of the object store against the rows, bundle by bundle."""
    reader = TileReader(LogStore(), size)
    for number in range((size + WIDTH - 1) // WIDTH):
        begin = number * WIDTH
        rows = LogLeaf.objects.filter(index__gte=begin, index__lt=min(begin + WIDTH, size))
        leaves = [bytes(data) for data in rows.order_by("index").values_list("data", flat=True)]
        try:
            entries, hashes = reader.entries(number), reader.hashes(0, number)
        except (FileNotFoundError, TileError):
            yield f"bundle {number}"
            continue
        if entries != leaves or [merkle.leaf_hash(entry) for entry in entries] != hashes:
            yield f"bundle {number}"


def _broken_heads() -> Iterator[str]:
    log = receipt_log()
    for head in Checkpoint.objects.order_by("size").iterator(chunk_size=CHUNK):
        try:
            key = VerifierKey.parse(head.log_key)
            signed = open_checkpoint(head.note, [key], settings.LOG_ORIGIN)
            root = log.head(head.size).root
        except (NoteError, FileNotFoundError, TileError):
            yield f"checkpoint of {head.size}"
            continue
        if (signed.size, signed.root, root.hex()) != (head.size, root, head.root):
            yield f"checkpoint of {head.size}"


def _foreign_anchors() -> Iterator[str]:
    roots = dict(Checkpoint.objects.values_list("size", "root"))
    anchored = ChainLog.objects.filter(
        contract="LogAnchor", event="Anchored", block__chain_id=settings.CHAIN_ID
    )
    for log in anchored.iterator(chunk_size=CHUNK):
        size = int(log.arguments["size"])
        if roots.get(size) != str(log.arguments["root"]).removeprefix("0x"):
            yield f"size {size} in {log.tx_hash}"
