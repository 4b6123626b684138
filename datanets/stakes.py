"""What the pages and the API read about stakes and slashes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, F, Q, QuerySet

from accounts.models import User
from datanets import access
from datanets.models import (
    Contribution,
    ContributionStake,
    Datanet,
    Record,
    Slash,
    SlashReason,
    SlashState,
)
from datanets.models.slashes import BASIS_POINTS
from datanets.services.slashing import may_decide
from datanets.services.staking import Quote, quote, returns_at, terms_in_force
from governance.selectors import current_parameters
from ledger.models import Account
from ledger.selectors import account_of_owner, balance, owed


@dataclass(frozen=True, slots=True)
class Part:
    """What a slash for one reason takes: the words, the part, and the part in wei."""

    reason: str
    label: str
    basis_points: int
    amount: int


@dataclass(frozen=True, slots=True)
class Terms:
    """What a Datanet asks for now; `least` is the governed minimum of a stake, in wei."""

    quote: Quote
    parts: Sequence[Part]
    least: int


@dataclass(frozen=True, slots=True)
class Offer:
    """A stake that is asked for, as the person sees it before submitting."""

    quote: Quote
    parts: Sequence[Part]
    spendable: int
    owed: int = 0

    @property
    def short_by(self) -> int:
        """What the person has to deposit first, in wei; what is owed is settled of it."""
        return max(0, self.quote.amount - self.spendable) + self.owed


@dataclass(frozen=True, slots=True)
class Standing:
    """A stake that was locked, where it stands, and its slashes."""

    staked: ContributionStake
    account: Account | None
    parts: Sequence[Part]
    returns_at: datetime | None
    slashes: Sequence[Slash]

    @property
    def is_disputed(self) -> bool:
        return any(slash.is_open for slash in self.slashes)


def terms(datanet: Datanet) -> Terms:
    """What this Datanet asks for now, whoever submits."""
    asked = terms_in_force(datanet)
    parts = [
        Part(reason, SlashReason(reason).label, points, asked.amount * points // BASIS_POINTS)
        for reason, points in asked.parts.items()
    ]
    least = current_parameters().governed("stake.contribution_min")
    return Terms(asked, parts, least)


def offer(datanet: Datanet, submitter: User) -> Offer | None:
    """What a submission of this person would put at risk now."""
    asked = quote(datanet=datanet, submitter=submitter)
    if asked is None:
        return None
    return Offer(asked, terms(datanet).parts, balance(submitter), owed(submitter))


def standing(contribution: Contribution) -> Standing | None:
    """The newest stake of a contribution; None where there never was one."""
    staked = contribution.stakes.select_related("stake__staker", "contribution__datanet").first()
    if staked is None:
        return None
    parts = [
        Part(
            reason.value,
            reason.label,
            staked.basis_points(reason),
            staked.stake.amount * staked.basis_points(reason) // BASIS_POINTS,
        )
        for reason in SlashReason
    ]
    return Standing(
        staked=staked,
        account=account_of_owner(Account.Kind.STAKE, staked.stake_id),
        parts=parts,
        returns_at=returns_at(staked),
        slashes=list(staked.slashes.with_people()),
    )


def may_propose(user: Any, standing: Standing | None) -> bool:
    """Whether this person may ask for a slash of it now."""
    if standing is None or standing.is_disputed or standing.staked.stake.state != "LOCKED":
        return False
    datanet = standing.staked.contribution.datanet
    return access.may_review(user, datanet) and user.pk != standing.staked.stake.staker_id


def slashable_records(contribution: Contribution, limit: int = 200) -> QuerySet[Record]:
    """Records that may stand as evidence, in the order of the file."""
    return contribution.records.order_by("row")[:limit]


def slashes_to_decide(user: User) -> QuerySet[Slash]:
    """Appeals that wait for a decision of this person, oldest first."""
    found = Slash.objects.filter(state=SlashState.APPEALED).with_people().order_by("appealed_at")
    pks = [slash.pk for slash in found if may_decide(user, slash)]
    return found.filter(pk__in=pks)


def slashes_of(datanet: Datanet, user: Any) -> QuerySet[Slash]:
    """Slashes in one Datanet that the viewer may see, open ones first."""
    visible = Slash.objects.visible_to(user).filter(datanet=datanet).with_people()
    return visible.order_by(F("closed_at").desc(nulls_first=True), "-id")


def proposers(datanet: Datanet) -> dict[UUID, dict[str, int]]:
    """How many slashes each person proposed here, and how many of them fell on appeal."""
    rows = (
        Slash.objects.filter(datanet=datanet)
        .values("proposed_by")
        .annotate(
            proposed=Count("pk"),
            overturned=Count("pk", filter=Q(state=SlashState.OVERTURNED)),
        )
        .order_by()
    )
    return {
        row["proposed_by"]: {"proposed": row["proposed"], "overturned": row["overturned"]}
        for row in rows
    }
