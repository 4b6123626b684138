"""The leaderboards of all time: totals that are kept, and what was written since, added to them.

Totals hold everything up to a horizon of a few minutes ago (`services.totals`). What came later is
little, and is added up at each call, so that the sum is that of all rows at every moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, overload
from uuid import UUID

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from attribution.models import (
    ContributorShare,
    CreditHorizon,
    CreditTotal,
    Receipt,
    ReceiptParent,
)
from datanets.models import Datanet
from ledger.models import Refund
from modelfactory.models import Model

# Of each leaderboard the field of a credit that it adds up by, and its name.
KINDS = {
    "contributors": ("contributor", "contributor__handle"),
    "datanets": ("datanet", "datanet__slug"),
    "models": ("answering", "answering_slug"),
}
# Wei and answers of one contributor, Datanet or model.
Sums = dict[UUID, tuple[int, int]]
Row = dict[str, Any]


def with_answering(shares: Any) -> Any:
    """With `answering`, the model by which a credit was earned: of several that answered as one
    the one that the credit names, else the receipt's; and its slug."""
    return shares.annotate(
        answering=Coalesce("model", "receipt__model"),
        answering_slug=Coalesce("model__slug", "receipt__model__slug"),
    )


def paid_by_others(kind: str, shares: Any) -> Any:
    """Without what somebody paid for their own records, Datanet or model: most of such a fee comes
    back to who paid it, so that a place on a leaderboard would cost next to nothing."""
    payer = F("receipt__payer")
    own = {
        "contributors": Q(contributor=payer),
        "datanets": Q(datanet__owner=payer),
        "models": Q(model__owner=payer) | Q(model=None, receipt__model__owner=payer),
    }
    return shares.exclude(own[kind])


def of_model(model: UUID) -> Q:
    """The credits that a model's records earned, alone or beside others."""
    alone = Q(receipt__model=model)
    # Asked first, since "one or the other" costs a look at every credit.
    if not ReceiptParent.objects.filter(model=model).exists():
        return alone
    return alone | Q(model=model)


def written_between(kind: str, after: datetime | None, until: datetime | None) -> Sums:
    """What receipts and refunds that were written after one moment and up to another change, of
    what others paid.

    None stands for the beginning and for now. Negative where more was given back.
    """
    receipts = Q() if after is None else Q(receipt__created_at__gt=after)
    receipts &= Q() if until is None else Q(receipt__created_at__lte=until)
    refunds = Refund.objects.filter(hold__cause_kind="completion")
    refunds = refunds if until is None else refunds.filter(created_at__lte=until)
    given_back = Receipt.objects.filter(pk=OuterRef("receipt_id")).filter(
        Exists(refunds.filter(hold__cause_id=OuterRef("completion_id")))
    )
    came = _sums(kind, ContributorShare.objects.filter(receipts).exclude(Exists(given_back)))
    if after is None:
        return came
    completions = refunds.filter(created_at__gt=after).values("hold__cause_id")
    before = Q(receipt__created_at__lte=after, receipt__completion_id__in=completions)
    for pk, (amount, answers) in _sums(kind, ContributorShare.objects.filter(before)).items():
        had, counted = came.get(pk, (0, 0))
        came[pk] = (had - amount, counted - answers)
    return came


def total_field(kind: str) -> str:
    """The field of a total that the leaderboard reads."""
    return kind.removesuffix("s")


class AllTime:
    """A leaderboard of all time, read by pages: a sequence of rows {"pk", "name", "amount",
    "answers"}, the largest amount first. A page costs its own rows and what is newer than the
    totals."""

    def __init__(self, kind: str, user: Any) -> None:
        self.field = total_field(kind)
        _, name = KINDS[kind]
        self.name = "model__slug" if self.field == "model" else name
        self.visible = self._visible_to(user)
        self.kind = kind
        self._read_newer()

    def __len__(self) -> int:
        return self._kept().count() + len(self._rows_changed())

    def __iter__(self) -> Iterator[Row]:
        return iter(self[: len(self)])

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        if isinstance(place, int):
            return self[place : place + 1][0]
        while True:
            start, stop, _ = place.indices(len(self))
            kept = [dict(row) for row in self._named(self._kept())[:stop]]
            rows = sorted([*kept, *self._rows_changed()], key=_order)
            if _horizon() == self.until:
                return rows[start:stop]
            # What was newer is in the totals now; it would count twice.
            self._read_newer()

    def _read_newer(self) -> None:
        self.until = _horizon()
        self.newer = written_between(self.kind, self.until, None)
        self._changed: list[Row] | None = None

    def _visible_to(self, user: Any) -> QuerySet[Any] | None:
        """None where all are."""
        if self.field == "datanet":
            return Datanet.objects.visible_to(user)
        return Model.objects.visible_to(user) if self.field == "model" else None

    def _totals(self) -> QuerySet[CreditTotal]:
        found = CreditTotal.objects.filter(**{f"{self.field}__isnull": False})
        if self.visible is not None:
            found = found.filter(**{f"{self.field}__in": self.visible.values("pk")})
        return found

    def _kept(self) -> QuerySet[CreditTotal]:
        """Totals that nothing newer changes."""
        return self._totals().exclude(**{f"{self.field}__in": list(self.newer)}).filter(
            answers__gt=0
        )  # fmt: skip

    def _named(self, totals: QuerySet[CreditTotal]) -> QuerySet[CreditTotal, Any]:
        found = totals.values("amount", "answers", pk=F(f"{self.field}_id"), name=F(self.name))
        return found.order_by("-amount", "name")

    def _rows_changed(self) -> list[Row]:
        """Of who is in newer receipts: the totals with those."""
        if self._changed is None:
            chosen = self._totals().filter(**{f"{self.field}__in": list(self.newer)})
            known: dict[Any, Row] = {row["pk"]: dict(row) for row in self._named(chosen)}
            known |= self._first_ones([pk for pk in self.newer if pk not in known])
            for pk, row in known.items():
                amount, answers = self.newer[pk]
                row["amount"] += amount
                row["answers"] += answers
            self._changed = [row for row in known.values() if row["answers"] > 0]
        return self._changed

    def _first_ones(self, ids: Sequence[UUID]) -> dict[Any, Row]:
        """Empty rows of who has no total yet and may be seen by name."""
        field: Any = CreditTotal._meta.get_field(self.field)
        found = self.visible if self.visible is not None else field.related_model.objects.all()
        names = found.filter(pk__in=ids).values_list("pk", self.name.split("__")[1])
        return {pk: {"pk": pk, "name": name, "amount": 0, "answers": 0} for pk, name in names}


def _horizon() -> datetime | None:
    return CreditHorizon.objects.values_list("until", flat=True).first()


def _order(row: Row) -> tuple[int, str]:
    return -row["amount"], row["name"]


def _sums(kind: str, shares: QuerySet[ContributorShare]) -> Sums:
    field, _ = KINDS[kind]
    rows = (
        with_answering(paid_by_others(kind, shares))
        .filter(**{f"{field}__isnull": False})
        .order_by()
        .values(pk=F(field))
        .annotate(amount=Sum(F("amount") - F("passed_on")), answers=Count("receipt", distinct=True))
    )
    return {row["pk"]: (int(row["amount"]), row["answers"]) for row in rows}
