"""What could not be computed and waits for somebody to mend the cause."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from attribution.models import Attribution, Index, SpanIndex
from modelfactory.models import Model

# More indexes that failed are told by their number.
SHOWN = 50


def failed_indexes() -> QuerySet[Index]:
    """The newest first."""
    found = Index.objects.filter(state=Index.State.FAILED)
    return found.select_related("model__owner").order_by("-id")


def failed_span_indexes() -> QuerySet[SpanIndex]:
    found = SpanIndex.objects.filter(state=SpanIndex.State.FAILED)
    return found.select_related("version__datanet", "base_model").order_by("-id")


def failed_answers(model: Model | None = None) -> QuerySet[Attribution]:
    """The newest first, without texts and tokens; with `model` those that it had a part in."""
    found = Attribution.objects.filter(state=Attribution.State.FAILED)
    if model is not None:
        merged = Q(merge__parents__contains=[{"model": str(model.pk)}])
        found = found.filter(Q(model=model) | merged)
    kept = ("completion_id", "created_at", "failure_reason", "lacks_index", "merge", "state")
    return found.select_related("model").only(*kept, "model__name", "model__slug").order_by("-id")
