"""A person's money month by month, in UTC: what was there, what came and went, what is there.

Read from postings alone, so that opening balance, entries and closing balance agree to the wei.
Cost: one sum over the person's postings of all time for each statement.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from django.db.models import Count, Max, Min, Q, QuerySet, Sum

from accounts.models import User
from ledger.models import Account, Entry, Posting
from ledger.months import bounds, month_of, next_month


@dataclass(frozen=True, slots=True)
class Line:
    """The entries of one kind on one account in the month."""

    kind: str
    label: str
    count: int
    came: int
    went: int

    @property
    def net(self) -> int:
        return self.came - self.went


@dataclass(frozen=True, slots=True)
class AccountLines:
    account: Account
    opening: int
    lines: Sequence[Line]

    @property
    def closing(self) -> int:
        return self.opening + sum(line.net for line in self.lines)


@dataclass(frozen=True, slots=True)
class Statement:
    """All accounts of a person in one month; `is_open` while the month goes on."""

    month: date
    accounts: Sequence[AccountLines]
    is_open: bool

    @property
    def opening(self) -> int:
        return sum(one.opening for one in self.accounts)

    @property
    def closing(self) -> int:
        return sum(one.closing for one in self.accounts)


def months(user: User, at: datetime) -> list[date]:
    """The months from the person's first posting to now, the newest first."""
    span = _postings(user).aggregate(
        first=Min("entry__effective_at"), last=Max("entry__effective_at")
    )
    if span["first"] is None:
        return []
    month, last = month_of(span["first"]), month_of(max(at, span["last"]))
    found = []
    while month <= last:
        found.append(month)
        month = next_month(month)
    return found[::-1]


def statement(user: User, month: date, at: datetime) -> Statement:
    start, end = bounds(month)
    accounts = list(_accounts(user).order_by("kind"))
    openings = dict(
        _postings(user)
        .filter(entry__effective_at__lt=start)
        .order_by()
        .values_list("account")
        .annotate(total=Sum("amount"))
    )
    lines = _lines(user, start, end)
    told = [
        AccountLines(account, openings.get(account.pk, 0), lines[account.pk])
        for account in accounts
    ]
    return Statement(
        month,
        [one for one in told if one.opening or one.lines],
        is_open=start <= at < end,
    )


def postings_in(user: User, month: date) -> QuerySet[Posting]:
    """Every posting of the month on the person's accounts, by account and time."""
    start, end = bounds(month)
    return (
        _postings(user)
        .filter(entry__effective_at__gte=start, entry__effective_at__lt=end)
        .select_related("entry", "account")
        .order_by("account__kind", "entry__effective_at", "id")
    )


def _lines(user: User, start: datetime, end: datetime) -> dict[UUID, list[Line]]:
    rows = (
        _postings(user)
        .filter(entry__effective_at__gte=start, entry__effective_at__lt=end)
        .order_by("entry__kind")
        .values("account_id", "entry__kind")
        .annotate(
            count=Count("entry_id", distinct=True),
            came=Sum("amount", filter=Q(amount__gt=0)),
            went=Sum("amount", filter=Q(amount__lt=0)),
        )
    )
    lines: dict[UUID, list[Line]] = defaultdict(list)
    for row in rows:
        kind = Entry.Kind(row["entry__kind"])
        lines[row["account_id"]].append(
            Line(kind, str(kind.label), row["count"], row["came"] or 0, -(row["went"] or 0))
        )
    return lines


def _accounts(user: User) -> QuerySet[Account]:
    return Account.objects.filter(owner_id=user.pk, kind__in=Account.OF_A_USER)


def _postings(user: User) -> QuerySet[Posting]:
    return Posting.objects.filter(account__in=_accounts(user))
