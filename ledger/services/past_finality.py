"""Undoing the entry of an event whose block the chain took back past finality, and numbering it.

What came of an event is one entry with the event's cause. It is undone by an entry with the
opposite legs and the same cause, so that how often that happened numbers the entry that books the
event when it comes again, in whichever transaction.
"""

from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet

from ledger.models import Entry
from ledger.services.posting import Cause, Leg, Refs, post_entry


def times_undone(cause: Cause) -> int:
    """How often the chain took back what `cause` stands for."""
    return _of(cause, Entry.Kind.UNDONE).count()


def standing(kind: Entry.Kind, cause: Cause) -> Entry | None:
    """The entry of this kind and cause that was not undone since. Call it under a lock."""
    last = _of(cause, kind).order_by("id").last()
    return None if last is None or _of(cause, kind).count() <= times_undone(cause) else last


@transaction.atomic
def undo(entry: Entry, *, at: datetime, cause: Cause | None = None) -> Entry:
    """Move everything back, once. Raises InsufficientFunds where it has moved on already."""
    own = Cause(entry.cause_kind, entry.cause_id) if entry.cause_id else None
    return post_entry(
        kind=Entry.Kind.UNDONE,
        key=f"undone:{entry.pk}",
        at=at,
        legs=[
            Leg(leg.account, -leg.amount, Refs(leg.datanet_id, leg.model_id, leg.completion_id))
            for leg in entry.postings.select_related("account")
        ],
        cause=cause or own,
    )


def _of(cause: Cause, kind: Entry.Kind) -> QuerySet[Entry]:
    return Entry.objects.filter(cause_kind=cause.kind, cause_id=cause.id, kind=kind)
