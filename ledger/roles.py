"""As what somebody earned: for records, as the model's owner, or as a royalty of an ancestor's.

A fee's entry names the model that was asked on the house's own legs; a royalty names the ancestor.
So the role of a posting follows from its entry, for old ones as well.
"""

from __future__ import annotations

from django.db.models import Case, F, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.fields import CharField
from django.db.models.functions import Coalesce

from ledger.models import Account, Entry, Posting

RECORDS, OWNER, ROYALTY = "records", "owner", "royalty"
NAMES = {
    RECORDS: "My records",
    OWNER: "My own models",
    ROYALTY: "Royalties",
}
OF_THE_HOUSE = (
    Account.Kind.PLATFORM,
    Account.Kind.STAKERS,
    Account.Kind.SUSPENSE,
    Account.Kind.MODEL_STAKES,
)


def with_roles(income: QuerySet[Posting]) -> QuerySet[Posting]:
    """Postings of earnings, each with its `role`."""
    asked = Posting.objects.filter(
        entry=OuterRef("entry"), account__kind__in=OF_THE_HOUSE, model_id__isnull=False
    ).values("model_id")[:1]
    settled = Q(entry__kind=Entry.Kind.SETTLEMENT) | Q(entry__reverses__kind=Entry.Kind.SETTLEMENT)
    return income.annotate(asked=Coalesce(Subquery(asked), F("model_id"))).annotate(
        role=Case(
            When(settled, then=Value(RECORDS)),
            When(model_id__isnull=False, asked=F("model_id"), then=Value(OWNER)),
            When(model_id__isnull=True, then=Value(OWNER)),
            default=Value(ROYALTY),
            output_field=CharField(),
        )
    )
