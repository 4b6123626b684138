"""The public graph Datanet → model → completion → payment, and who leads in it.

A line is one credit of a receipt. Everything here is public but the names of Datanets and models
that the reader may not see, which stand as ids. Answers whose fee was given back are left out of
every sum. Sums are the database's; a page costs its own rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import TruncDate

from attribution.models import ContributorShare, Receipt, RecordInfluence
from attribution.totals import KINDS, AllTime, of_model, paid_by_others, with_answering
from datanets.models import Datanet
from ledger.models import Refund
from modelfactory.models import Model

PERIODS = {"day": 1, "week": 7, "month": 30, "year": 365, "all": 0}
# What a line may be chosen by.
CHOICES = ("contributor", "datanet", "model")
DAYS = 90


def since_of(period: str, at: datetime) -> datetime | None:
    """When the period began; None for all time, and for a period that there is not."""
    days = PERIODS.get(period, 0)
    return at - timedelta(days=days) if days else None


def payments(
    user: Any, *, at: datetime, period: str = "all", by_others: bool = False, **chosen: UUID | None
) -> QuerySet[ContributorShare]:
    """Credits that stand, newest first; `chosen` by contributor, datanet or model; of these only
    what was paid `by_others`, as a leaderboard counts it, where that is asked.

    With `datanet_is_visible` and `model_is_visible`, as `user` may know their names.
    """
    visible = Model.objects.visible_to(user).filter(pk=OuterRef("answering"))
    found: QuerySet[ContributorShare] = (
        with_answering(_standing(period, at))
        .seen_by(user)
        .annotate(model_is_visible=Exists(visible))
        .select_related("contributor", "datanet", "model__owner", "receipt__model__owner")
        .order_by("-receipt__at", "-id")
    )
    for name, identifier in chosen.items():
        if identifier is not None:
            found = found.filter(_chosen(name, identifier))
            found = paid_by_others(f"{name}s", found) if by_others else found
    return found


def leaders(kind: str, user: Any, *, at: datetime, period: str = "all") -> QuerySet[Any] | AllTime:
    """Rows {"pk", "name", "amount", "answers"}, the largest amount first.

    `amount` is wei credited to contributors, to a Datanet's contributors and treasury, or by
    answers of a model, less what passed on to ancestors, and without what somebody paid for what
    is their own. Only what `user` may see by name leads.
    A period's rows are added up at each call; those of all time are kept added up.
    """
    if since_of(period, at) is None:
        return AllTime(kind, user)
    field, name = KINDS[kind]
    found = with_answering(paid_by_others(kind, _standing(period, at)))
    found = found.filter(**{f"{field}__isnull": False})
    if kind == "datanets":
        found = found.filter(datanet__in=Datanet.objects.visible_to(user).values("pk"))
    elif kind == "models":
        found = found.filter(answering__in=Model.objects.visible_to(user).values("pk"))
    return (
        found.order_by()
        .values(pk=F(field), name=F(name))
        .annotate(amount=Sum(F("amount") - F("passed_on")), answers=Count("receipt", distinct=True))
        .order_by("-amount", "name")
    )


@dataclass(frozen=True, slots=True)
class Day:
    """A day's bar in a chart of 100 by 30: `x` and `height`; `amount` is wei."""

    day: date
    answers: int
    amount: int
    x: float
    height: float

    @property
    def y(self) -> float:
        return 30 - self.height


@dataclass(frozen=True, slots=True)
class Timeline:
    days: list[Day]
    answers: int
    amount: int
    width: float


def timeline(*, at: datetime, **chosen: UUID) -> Timeline:
    """The last 90 days of one contributor, datanet, model or record, day by day.

    Of a record only in how many answers it was among the strongest: no money is a record's.
    """
    since = at - timedelta(days=DAYS - 1)
    if record := chosen.get("record"):
        rows: Any = (
            RecordInfluence.objects.filter(record=record, receipt__at__date__gte=since.date())
            .order_by()
            .annotate(day=TruncDate("receipt__at"))
            .values("day")
            .annotate(answers=Count("receipt", distinct=True))
        )
    else:
        ((name, identifier),) = chosen.items()
        rows = (
            _standing("all", at)
            .filter(_chosen(name, identifier), receipt__at__date__gte=since.date())
            .order_by()
            .annotate(day=TruncDate("receipt__at"))
            .values("day")
            .annotate(
                wei=Sum(F("amount") - F("passed_on")), answers=Count("receipt", distinct=True)
            )
        )
    by_day = {row["day"]: (row["answers"], int(row.get("wei") or 0)) for row in rows}
    most = max((answers for answers, _ in by_day.values()), default=0) or 1
    width = 100 / DAYS
    days = [
        Day(day, answers, wei, place * width, 30 * answers / most)
        for place in range(DAYS)
        if (day := since.date() + timedelta(days=place)) in by_day
        for answers, wei in [by_day[day]]
    ]
    return Timeline(
        days, sum(one.answers for one in days), sum(one.amount for one in days), width * 0.8
    )


def _chosen(name: str, identifier: UUID) -> Q:
    return of_model(identifier) if name == "model" else Q(**{name: identifier})


def _standing(period: str, at: datetime) -> Any:
    """Credits of receipts of a period whose fees were not given back."""
    refunds = Refund.objects.filter(
        hold__cause_kind="completion", hold__cause_id=OuterRef("completion_id")
    )
    refunded = Receipt.objects.filter(pk=OuterRef("receipt_id")).filter(Exists(refunds))
    found = ContributorShare.objects.filter(~Exists(refunded))
    since = since_of(period, at)
    return found.filter(Q(receipt__at__gte=since)) if since else found
