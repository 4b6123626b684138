"""Erasing the private part of a receipt: salts, sketch, records, passages and what was retrieved.

The public part, its leaf and the payments stay, so the log stays valid and nobody's earnings
change. Without the salts the hashes of prompt and answer match no guess any more, and without the
sketch nothing of the answer can be computed. It cannot be undone.
"""

from __future__ import annotations

from datetime import datetime

from django.core.exceptions import PermissionDenied
from django.db import transaction

from accounts import audit, blobs
from accounts.models import User
from attribution.models import Attribution, Passage, Receipt, RecordInfluence, Rescoring


def erase_private_part(*, receipt: Receipt, acting_user: User, at: datetime) -> bool:
    """Erase for good, as its payer or as staff; whether there was anything left to erase.

    Raises PermissionDenied for anybody else.
    """
    if not (acting_user.is_staff or receipt.payer_id == acting_user.pk):
        raise PermissionDenied("Only who paid for the answer, and staff, can erase this.")
    with transaction.atomic():
        row = Receipt.objects.select_for_update().get(pk=receipt.pk)
        if not row.private and row.sketch_id is None:
            return False
        rescorings = Rescoring.objects.filter(receipt=row)
        had = [row.sketch_id, *rescorings.values_list("sketch", flat=True)]
        sketches = {one for one in had if one is not None}
        row.private, row.sketch = {}, None
        row.save(update_fields=["private", "sketch"])
        # They have the same salts.
        rescorings.update(private={}, sketch=None)
        RecordInfluence.objects.filter(receipt=row).delete()
        Passage.objects.filter(receipt=row).delete()
        Attribution.objects.filter(pk=row.attribution_id).update(retrieval=None)
        for sketch in sketches:
            if not any(
                kind.objects.filter(sketch=sketch).exists() for kind in (Receipt, Rescoring)
            ):
                blobs.delete(sketch)
        audit.record(actor=acting_user, verb="attribution.private_erased", target=row, at=at)
    return True
