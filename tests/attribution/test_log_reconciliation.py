"""What was changed behind the log's back is found and named."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from attribution.models import Attribution, Checkpoint, LogLeaf, Receipt
from attribution.reconciliation import check_tree
from attribution.services import log
from tests.attribution.log_helpers import NOON, body_of, own_store, signed

__all__ = ["own_store"]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_store")]


def wrong() -> list[str]:
    return [finding.name for finding in check_tree() if not finding.holds]


def overwrite(path: str, data: bytes) -> None:
    default_storage.delete(path)
    default_storage.save(path, ContentFile(data))


def receipt_in_the_log() -> Receipt:
    attribution = Attribution.objects.create(
        completion_id=uuid4(), fee=0, input_price=0, output_price=0, split={}
    )
    pk = uuid4()
    leaf = log.append_receipt(receipt_id=pk, body=body_of(pk), at=NOON)
    return Receipt.objects.create(
        id=pk,
        attribution=attribution,
        completion_id=attribution.completion_id,
        outcome=Receipt.Outcome.NO_CONTRIBUTORS,
        fee=0,
        amount=0,
        public=body_of(pk),
        body_sha256="0" * 64,
        leaf_hash=leaf.leaf_hash,
        at=NOON,
    )


def test_an_untouched_log_has_no_difference() -> None:
    assert wrong() == []
    signed(3)
    receipt_in_the_log()
    signed(300)
    assert wrong() == []


def test_a_receipt_that_waits_for_its_place_is_no_difference() -> None:
    signed(1)
    receipt_in_the_log()
    assert wrong() == []


def test_a_changed_entry_in_the_store_is_found() -> None:
    signed(3)
    path = "log/tile/entries/000.p/3"
    overwrite(path, default_storage.open(path).read()[:-1] + b"!")
    assert wrong() == ["entries of the stored log that are not the leaves (rows)"]


def test_a_lost_tile_is_found() -> None:
    signed(3)
    default_storage.delete("log/tile/0/000.p/3")
    assert wrong() == [
        "entries of the stored log that are not the leaves (rows)",
        "checkpoints that the stored tree does not lead to (rows)",
    ]


def test_a_changed_leaf_is_found() -> None:
    signed(3)
    LogLeaf.objects.filter(index=1).update(data=b"{}")
    assert wrong() == ["entries of the stored log that are not the leaves (rows)"]


def test_a_deleted_leaf_is_found() -> None:
    signed(3)
    LogLeaf.objects.filter(index=1).delete()
    assert wrong()[0] == "leaves with a place under the newest checkpoint (rows)"


@pytest.mark.parametrize("column", [{"root": "11" * 32}, {"note": "no note"}])
def test_a_changed_checkpoint_is_found(column: dict[str, str]) -> None:
    signed(3)
    Checkpoint.objects.update(**column)
    assert wrong() == ["checkpoints that the stored tree does not lead to (rows)"]


def test_a_receipt_without_a_leaf_is_found() -> None:
    receipt = receipt_in_the_log()
    signed(1)
    LogLeaf.objects.filter(receipt_id=receipt.pk).update(receipt_id=uuid4())
    assert "receipts whose body is not the one in the log (rows)" in wrong()


def test_a_receipt_with_another_body_is_found() -> None:
    receipt = receipt_in_the_log()
    signed(1)
    leaf = LogLeaf.objects.get(receipt_id=receipt.pk)
    LogLeaf.objects.filter(pk=leaf.pk).update(data=b'{"sha256":"00"}')
    assert "receipts whose body is not the one in the log (rows)" in wrong()
