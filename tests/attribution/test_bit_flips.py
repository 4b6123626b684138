"""Single flipped bits in receipts, proofs, tiles, entries, checkpoints, sketches and postings: each
is found, and nothing is signed over one.

`BIT_FLIPS=1000` does a thousand; as part of the suite it is a tenth of that.
"""

import copy
import os
import random
from uuid import uuid4

import pytest
from django.db import connection, transaction

from attribution import reconciliation, selectors, verification, verified_scores
from attribution.influence.errors import IndexFileError
from attribution.influence.index import Index as OpenedIndex
from attribution.models import Checkpoint, Index, LogLeaf
from attribution.services import log
from attribution.translog import canonical, merkle
from attribution.translog.checkpoint import VerifierKey
from attribution.translog.tiles import MemoryStore
from attribution.translog.verify import BundleError, verify
from ledger.models import Posting
from tests.attribution.log_helpers import NOON, append

pytestmark = pytest.mark.django_db
FLIPS = int(os.environ.get("BIT_FLIPS", "100"))
# More than one full tile, so that there are tiles of two levels.
FILLERS = 258


class Flipper:
    """Everything that a bit can be flipped in; each method flips one and says whether it shows."""

    def __init__(self, receipt, store, folder):
        self.receipt, self.store, self.folder = receipt, store, folder
        self.chance = random.Random(20261125)
        self.head = Checkpoint.objects.order_by("-size").first()
        self.bundle = selectors.bundle_of(receipt)
        self.key = VerifierKey.parse(self.bundle["log_key"])
        self.leaves = [
            bytes(one) for one in LogLeaf.objects.order_by("index").values_list("data", flat=True)
        ]

    def flip(self, data):
        changed = bytearray(data)
        place = self.chance.randrange(8 * len(changed))
        changed[place // 8] ^= 1 << place % 8
        return bytes(changed)

    def in_a_receipt(self):
        """Or in its leaf, proof or checkpoint, as the file that a reader downloads."""
        part = self.chance.choice(["receipt", "leaf", "proof", "checkpoint", "index", "size"])
        changed = copy.copy(self.bundle)
        try:
            changed[part] = canonical.loads(self.flip(canonical.dumps(self.bundle[part])))
        except canonical.CanonicalError:
            return True
        return not verify(changed, key=self.key).holds

    def in_a_tile(self):
        return self._in_the_store("tile/", "tile/entries/")

    def in_the_entries(self):
        return self._in_the_store("tile/entries/")

    def _in_the_store(self, prefix, but="nothing"):
        """Behind the log's back; the parts of tiles that a wider one replaced are read no more."""
        size = self.head.size
        wanted = [
            path
            for path in self.store.files
            if path.startswith(prefix)
            and not path.startswith(but)
            and (".p/" not in path or path.endswith(f".p/{size % 256}"))
        ]
        before = dict(self.store.files)
        path = self.chance.choice(sorted(wanted))
        self.store.files[path] = self.flip(before[path])
        found = any(not one.holds for one in reconciliation.check_tree())
        self._sign_nothing_false()
        self.store.files = before
        return found

    def _sign_nothing_false(self):
        """A new head is refused, or it is the one that the true leaves lead to."""
        try:
            signed = log._append(self.head, [b"the next one"])
        except (log.LogDamagedError, ValueError):
            return
        assert signed.root == merkle.root([*self.leaves, b"the next one"])

    def in_a_waiting_entry(self):
        """Nothing is signed over a leaf that was changed before it had its place."""
        with transaction.atomic():
            (pk,) = append(1)
            leaf = LogLeaf.objects.get(receipt_id=pk)
            LogLeaf.objects.filter(pk=leaf.pk).update(data=self.flip(bytes(leaf.data)))
            with pytest.raises(log.LogDamagedError, match=str(pk)):
                log.sequence(at=NOON)
            newest = Checkpoint.objects.order_by("-size").first()
            transaction.set_rollback(True)
        return newest.pk == self.head.pk

    def in_a_checkpoint(self):
        with transaction.atomic():
            try:
                note = self.flip(self.head.note.encode()).decode()
                Checkpoint.objects.filter(pk=self.head.pk).update(note=note)
            except ValueError:  # no text any more, or one that no database holds
                return True
            found = any(not one.holds for one in reconciliation.check_tree())
            transaction.set_rollback(True)
        return found

    def in_a_sketch(self):
        """The answer's, or those of the records in the index."""
        if self.chance.random() < 0.5:
            true = verified_scores._sketch(self.receipt)
            sketch = self.flip(true)
            try:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(verified_scores, "_sketch", lambda receipt: sketch)
                    verified_scores._check_private(self.receipt)
            except BundleError:
                return True
            return False
        path = self.folder / self.chance.choice(["codes.npy", "norms.npy", "sums.npy"])
        true = path.read_bytes()
        path.write_bytes(self.flip(true))
        try:
            OpenedIndex.open(self.folder)
        except IndexFileError as error:
            return path.name in str(error)
        finally:
            path.write_bytes(true)
        return False

    def in_a_posting(self):
        """Of the entry that settled the receipt, behind the triggers' back."""
        posting = self.chance.choice(list(Posting.objects.filter(entry_id=self.receipt.entry_id)))
        amount = abs(posting.amount) ^ 1 << self.chance.randrange(96)
        amount = amount or 1
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL session_replication_role = replica")
                cursor.execute(
                    "UPDATE ledger_posting SET amount = %s WHERE id = %s",
                    [amount if posting.amount > 0 else -amount, posting.pk],
                )
            try:
                verification._check_settlement(self.receipt)
                found = False
            except BundleError:
                found = True
            transaction.set_rollback(True)
        return found


@pytest.fixture
def flipper(indexed, monkeypatch, settings):
    store = MemoryStore()
    for module in (log, reconciliation):
        monkeypatch.setattr(module, "LogStore", lambda: store)
    waiting = [{"kind": log.LEAF_KIND, "receipt": str(uuid4()), "sha256": "0" * 64}] * FILLERS
    LogLeaf.objects.bulk_create(
        LogLeaf(receipt_id=uuid4(), data=data, leaf_hash=merkle.leaf_hash(data).hex())
        for data in map(canonical.dumps, waiting)
    )
    receipt = indexed.receipt()
    assert verification.verify_receipt(receipt).holds
    assert all(one.holds for one in reconciliation.check_tree())
    root = Index.objects.get().root
    return Flipper(receipt, store, settings.DATA_DIR / "cache" / "indexes" / root)


KINDS = [
    "in_a_receipt",
    "in_a_tile",
    "in_the_entries",
    "in_a_waiting_entry",
    "in_a_checkpoint",
    "in_a_sketch",
    "in_a_posting",
]


def test_every_flipped_bit_is_found_and_none_is_signed(flipper):
    missed = [
        kind for turn in range(FLIPS) if not getattr(flipper, kind := KINDS[turn % len(KINDS)])()
    ]
    assert missed == []
    # Everything was put back.
    assert all(one.holds for one in reconciliation.check_tree())
    assert verification.verify_receipt(flipper.receipt).holds
