"""What a person earned: chosen by the address, grouped as bars, and what is still on its way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.db.models import Count, F, QuerySet, Sum
from django.db.models.functions import TruncDate

from accounts import pages
from accounts.models import User
from ledger import roles, selectors
from ledger.models import Account, Claim, Distribution, Posting, Withdrawal
from ledger.months import start_of
from ledger.words import open_text

# How income is grouped: the filter's name in an address, and the column or expression behind it.
GROUPINGS = {
    "role": "role",
    "datanet": "datanet_id",
    "model": "model_id",
    "day": "day",
    "completion": "completion_id",
}
OF_THINGS = ("datanet", "model", "completion")
# A model's owner earns from fees, whatever the Datanets are.
NAMELESS = {
    "datanet": "As a model's owner",
    "model": "No model",
    "completion": "No completion",
    "day": "",
    "role": "",
}
PAGES = {"datanet": "datanet", "model": "model", "completion": "receipt_of_completion"}
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Filters:
    """What of the income is meant; None stands for what is about no Datanet, model, completion."""

    things: Mapping[str, UUID | None] = field(default_factory=dict)
    since: date | None = None
    until: date | None = None
    role: str = ""

    @property
    def about(self) -> str:
        """In words, "" where nothing was chosen."""
        words = [
            NAMELESS[kind] if pk is None else pages.names(kind, [pk])[pk]
            for kind, pk in self.things.items()
        ]
        words += [roles.NAMES[self.role]] if self.role else []
        if self.since and self.since == self.until:
            words.append(self.since.isoformat())
        else:
            words += [f"from {self.since}"] * bool(self.since)
            words += [f"to {self.until}"] * bool(self.until)
        return ", ".join(words)

    @property
    def query(self) -> str:
        """The same as the query of an address."""
        return urlencode(self._values())

    def narrowed(self, kind: str, key: str) -> str:
        """The query that chooses one group of what is chosen here."""
        change = {"since": key, "until": key} if kind == "day" else {kind: key}
        return urlencode(self._values() | change)

    def apply(self, income: QuerySet[Posting]) -> QuerySet[Posting]:
        """What is chosen of the income, each posting with its role."""
        income = roles.with_roles(income)
        if self.role:
            income = income.filter(**{"role": self.role})
        for kind, pk in self.things.items():
            column = GROUPINGS[kind]
            income = income.filter(**({f"{column}__isnull": True} if pk is None else {column: pk}))
        if self.since:
            income = income.filter(entry__effective_at__gte=start_of(self.since))
        if self.until and self.until < date.max:
            after = start_of(self.until + timedelta(days=1))
            income = income.filter(entry__effective_at__lt=after)
        return income

    def _values(self) -> dict[str, str]:
        values = {kind: "none" if pk is None else str(pk) for kind, pk in self.things.items()}
        others = {"since": self.since, "until": self.until, "role": self.role}
        return values | {name: str(value) for name, value in others.items() if value}


@dataclass(frozen=True, slots=True)
class Bar:
    """A group of income, and its percentage of the largest group; `query` opens its entries."""

    key: str
    name: str
    url: str
    query: str
    amount: int
    count: int
    percent: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Wei that are not the person's to take yet: why, and until when as far as anybody knows.

    `is_bound` marks an amount that others share: no more than that comes.
    """

    amount: int
    why: str
    until: datetime | None
    until_words: str
    url: str
    link: str
    is_bound: bool = False


def read_filters(values: Mapping[str, str]) -> Filters:
    """From ?datanet=, ?model=, ?completion=, ?role=, ?since=, ?until=, and ?day= for both.

    What cannot be read is left out.
    """
    things: dict[str, UUID | None] = {}
    for kind in OF_THINGS:
        text = values.get(kind, "")
        if text == "none":
            things[kind] = None
        elif (pk := _uuid(text)) is not None:
            things[kind] = pk
    day = _day(values.get("day", ""))
    role = values.get("role", "")
    return Filters(
        things,
        role=role if role in roles.NAMES else "",
        since=day or _day(values.get("since", "")),
        until=day or _day(values.get("until", "")),
    )


def groups_of(income: QuerySet[Posting], chosen: Filters) -> dict[str, list[Bar]]:
    """Income, with its roles, by role, Datanet, model, day and completion; a statement each."""
    return {kind: bars(income, kind, chosen) for kind in GROUPINGS}


def bars(income: QuerySet[Posting], kind: str, chosen: Filters) -> list[Bar]:
    """The largest groups first, of days the newest."""
    column = GROUPINGS[kind]
    if kind == "day":
        income = income.annotate(day=TruncDate("entry__effective_at"))
    grouped = income.order_by().values(column).annotate(total=Sum("amount"), count=Count("id"))
    order = ["-day"] if kind == "day" else ["-total", F(column).asc(nulls_last=True)]
    rows = list(grouped.order_by(*order)[:SHOWN])
    largest = max((row["total"] for row in rows), default=0)
    names = pages.names(kind, [row[column] for row in rows if isinstance(row[column], UUID)])
    return [
        Bar(
            key=(key := "none" if row[column] is None else str(row[column])),
            name=_name(kind, row[column], names),
            url=pages.url(PAGES[kind], row[column]) if isinstance(row[column], UUID) else "",
            query=chosen.narrowed(kind, key),
            amount=row["total"],
            count=row["count"],
            percent=max(0, row["total"]) * 100 // largest if largest > 0 else 0,
        )
        for row in rows
    ]


def waiting(user: User, at: datetime) -> list[Waiting]:
    """Everything that is on its way to the person, in the order of its way."""
    return [
        *_for_receipts(user),
        *_for_publication(user, at),
        *_for_the_chain(user),
        *_for_confirmations(user),
    ]


def made_spendable(user: User) -> int:
    """What went from earnings to the spendable balance, in wei."""
    moved = Posting.objects.filter(
        account__kind=Account.Kind.EARNINGS, account__owner_id=user.pk, entry__kind="TRANSFER"
    )
    return -(moved.aggregate(total=Sum("amount"))["total"] or 0)


def _for_receipts(user: User) -> list[Waiting]:
    """Fees of models that paid the person before, whose shares are not known yet."""
    models = selectors.income(user).order_by().filter(model_id__isnull=False)
    suspense = Account.objects.filter(
        kind=Account.Kind.SUSPENSE,
        balance__gt=0,
        postings__model_id__in=models.values("model_id").distinct(),
    ).distinct()
    found = suspense.values_list("pk", "balance")
    if not (balances := dict(found)):
        return []
    count = len(balances)
    return [
        Waiting(
            amount=sum(balances.values()),
            why=f"{count} answer{'s' if count != 1 else ''} of models that paid you before "
            "wait for a receipt; it says which part is yours.",
            until=None,
            until_words="Until the receipt, mostly within a minute",
            url=f"{pages.url('account', next(iter(balances)))}" if count == 1 else "/receipts/",
            link="Account" if count == 1 else "Receipts",
            is_bound=True,
        )
    ]


def _for_publication(user: User, at: datetime) -> list[Waiting]:
    account = selectors.account_of(user, Account.Kind.EARNINGS)
    if account is None or account.balance == 0:
        return []
    url = pages.url("account", account.pk)
    if (owed := selectors.owed(user)) > 0:
        why = (
            f"Publishing is blocked: you owe {open_text(owed)} OPEN for a deposit that the chain "
            "took back. Make that much of your earnings spendable below, or deposit it."
        )
        return [
            Waiting(account.balance, why, None, "Until what you owe is settled", url, "Account")
        ]
    if selectors.payout_wallet(user) is None:
        why = "Available, and in no distribution before you link a wallet."
        until, words = None, "Until you link a wallet; it does not expire"
    else:
        why = "Available; the next distribution publishes it for claiming."
        until, words = next_publication(at), ""
    return [Waiting(account.balance, why, until, words, url, "Account")]


def next_publication(at: datetime) -> datetime:
    """When the next distribution is made, at the latest, while the workers run."""
    last = Distribution.objects.order_by("-epoch").first()
    every = timedelta(seconds=settings.DISTRIBUTION_SECONDS)
    due = last.created_at + every if last else at + every
    return due if due > at else at + every


def _for_the_chain(user: User) -> list[Waiting]:
    return [
        Waiting(
            amount=item.amount,
            why=item.reason,
            until=item.distribution.activates_at if item.distribution else None,
            until_words="Until its transactions are final",
            url=_distribution_url(item.distribution),
            link=f"Epoch {item.distribution.epoch}" if item.distribution else "",
        )
        for item in selectors.earnings(user).pending
    ]


def _distribution_url(distribution: Distribution | None) -> str:
    """Its page; none before all earnings of the epoch are gathered."""
    if distribution is None or distribution.state == Distribution.State.GATHERING:
        return ""
    return pages.url("distribution", distribution.pk)


def _for_confirmations(user: User) -> list[Waiting]:
    claims = selectors.claims_of(user).filter(state=Claim.State.REQUESTED)
    leaving = Withdrawal.objects.filter(
        user=user, source__kind=Account.Kind.EARNINGS, state__in=Withdrawal.OPEN
    )
    return [
        Waiting(
            claim.amount,
            f"A claim to {claim.payee.address[:10]}… is on its way to the chain.",
            None,
            "Until its block is final",
            pages.url("intent", claim.intent_id),
            "Intent",
        )
        for claim in claims
    ] + [
        Waiting(
            row.amount,
            f"A payment to {row.address[:10]}… is on its way to the chain.",
            None,
            "Until its block is final",
            pages.url("entry", row.entry_id),
            "Entry",
        )
        for row in leaving
    ]


def _name(kind: str, key: UUID | date | str | None, names: Mapping[UUID, str]) -> str:
    if isinstance(key, UUID):
        return names[key]
    if isinstance(key, str):
        return roles.NAMES[key]
    return NAMELESS[kind] if key is None else f"{key:%d %b %Y}"


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
