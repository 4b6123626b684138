"""What home, search, explorer and the staff page show: reads over all rooms."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.postgres.search import SearchQuery, SearchRank, SearchVector
from django.db.models import Count, Sum

from accounts import workers
from accounts.fields import WeiField
from accounts.models import AuditEvent, OutboxMessage, User
from attribution.models import Attribution, Checkpoint, Index, Receipt
from attribution.selectors import without_index
from datanets.models import (
    Contribution,
    ContributionState,
    Datanet,
    Record,
    Report,
    Slash,
    Version,
    VersionBuild,
)
from ledger import truth
from ledger.models import (
    Account,
    ChainBlock,
    ChainHead,
    ChainLog,
    ChainWallet,
    Distribution,
    Entry,
    Intent,
    PoolSlash,
    Posting,
)
from ledger.selectors import intents_held_by_caps
from modelfactory.models import Model, Run
from serving.models import Completion

NEWEST = 6
FOUND = 20


@dataclass(frozen=True)
class Totals:
    """Counts of the whole instance; `paid` is wei that receipts gave to contributors."""

    records: int
    contributors: int
    models: int
    completions: int
    receipts: int
    paid: int


def totals() -> Totals:
    accepted = Record.objects.filter(state="ACCEPTED")
    paid = Posting.objects.filter(
        entry__kind=Entry.Kind.SETTLEMENT, account__kind=Account.Kind.EARNINGS
    ).aggregate(wei=Sum("amount", output_field=WeiField()))["wei"]
    return Totals(
        records=accepted.count(),
        contributors=accepted.aggregate(people=Count("contributor", distinct=True))["people"],
        models=Model.objects.published().count(),
        completions=Completion.objects.filter(state="SUCCEEDED").count(),
        receipts=Receipt.objects.count(),
        paid=paid or 0,
    )


@dataclass(frozen=True)
class Activity:
    """Work under way: how far it is for everybody, whose it is for those who may see it."""

    contributions: int
    runs: list[Run]
    visible_runs: frozenset[UUID]
    completions: int
    distributions: list[Distribution]

    @property
    def is_any(self) -> bool:
        return bool(self.contributions or self.runs or self.completions or self.distributions)


def activity(user: Any) -> Activity:
    active = Run.objects.filter(state__in=["QUEUED", "RUNNING"])
    moving = [state for state in ContributionState if state.is_moving]
    return Activity(
        contributions=Contribution.objects.filter(state__in=moving).count(),
        runs=list(active.order_by("queued_at")[:NEWEST]),
        visible_runs=frozenset(active.visible_to(user).values_list("pk", flat=True)),
        completions=Completion.objects.unfinished().count(),
        distributions=list(Distribution.objects.filter(state__in=Distribution.IN_FLIGHT)),
    )


def newest() -> dict[str, Any]:
    """The newest public Datanets, models and receipts."""
    return {
        "datanets": Datanet.objects.filter(state="PUBLISHED").order_by("-published_at")[:NEWEST],
        "models": Model.objects.published().select_related("owner", "base_model")[:NEWEST],
        "receipts": Receipt.objects.order_by("-created_at")[:NEWEST],
    }


def find(text: str, user: Any) -> dict[str, Any]:
    """What `user` may see and matches all words of `text`, and who has it as their handle."""
    query = SearchQuery(text, search_type="websearch", config="english")

    def ranked(rows: Any, *columns: str) -> Any:
        vector = SearchVector(*columns, config="english")
        return (
            rows.annotate(found=vector, rank=SearchRank(vector, query))
            .filter(found=query)
            .order_by("-rank", "-id")[:FOUND]
        )

    datanets = Datanet.objects.visible_to(user)
    return {
        "people": User.objects.filter(handle=text.lower())[:FOUND],
        "datanets": ranked(datanets, "name", "summary", "description"),
        "models": ranked(Model.objects.visible_to(user), "name", "summary"),
        "records": Record.objects.visible_to(user)
        .filter(state="ACCEPTED")
        .matching(text)
        .select_related("datanet", "contributor")[:FOUND],
    }


def latest_proofs() -> dict[str, Any]:
    """The newest of everything that a stranger may check, and how far the chain was read."""
    at = truth.head()
    return {
        "receipts": Receipt.objects.order_by("-created_at")[:NEWEST],
        "checkpoints": Checkpoint.objects.order_by("-size")[:NEWEST],
        "versions": Version.objects.filter(datanet__state="PUBLISHED")
        .select_related("datanet")
        .order_by("-created_at")[:NEWEST],
        "entries": Entry.objects.order_by("-effective_at", "-id")[:NEWEST],
        "distributions": [
            (one, truth.of_distribution(one, at))
            for one in Distribution.objects.order_by("-epoch")[:NEWEST]
        ],
        "intents": [
            (one, truth.of_intent(one, at))
            for one in Intent.objects.order_by("-created_at")[:NEWEST]
        ],
        "blocks": ChainBlock.objects.filter(chain_id=settings.CHAIN_ID, logs__isnull=False)
        .annotate(events=Count("logs"))
        .order_by("-number")[:NEWEST],
        "head": at,
    }


def staff_overview(at: datetime) -> dict[str, Any]:
    """What staff must act on, and whether the machinery runs."""
    return {
        "in_review": Datanet.objects.filter(state="IN_REVIEW").count(),
        "appeals": Slash.objects.filter(state="APPEALED").count(),
        "pool_appeals": PoolSlash.objects.filter(state="APPEALED").count(),
        "reports": Report.objects.filter(state="OPEN").count(),
        "workers": workers.live_workers(at=at).order_by("queue", "name"),
        "unsent": OutboxMessage.objects.filter(sent_at__isnull=True, available_at__lte=at).count(),
        "failed": {
            "Contributions": Contribution.objects.filter(state="FAILED").count(),
            "Runs": Run.objects.filter(state="FAILED").count(),
            "Completions": Completion.objects.filter(state="FAILED").count(),
            "Intents": Intent.objects.filter(state="FAILED").count(),
            "Version builds": VersionBuild.objects.filter(state="FAILED").count(),
            "Indexes": Index.objects.filter(state="FAILED").count(),
            "Attributions": Attribution.objects.filter(state="FAILED").count(),
            "Events of the chain": ChainLog.objects.exclude(problem="").count(),
        },
        "blends_waiting": Attribution.objects.filter(state="FAILED", merge__isnull=False).count(),
        "without_index": without_index(at=at),
        "held_by_caps": intents_held_by_caps(),
        "halt": ChainHead.objects.filter(halted_at__isnull=False).first(),
        "chain_problems": [
            *[
                f"{one.told} {one.trouble}"
                for one in ChainHead.objects.filter(halted_at__isnull=True)
                if one.told
            ],
            *ChainWallet.objects.exclude(problem="").values_list("problem", flat=True),
        ],
        "events": AuditEvent.objects.select_related("actor").order_by("-at", "-id")[:50],
    }
