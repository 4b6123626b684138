"""What is in force, what is decided now, and who may say how much. Reads mirrored tables alone."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db.models import QuerySet

from accounts.models import User
from governance.models import (
    Delegation,
    ParameterVersion,
    PowerCheckpoint,
    Proposal,
    ProposalState,
    TokenBalance,
    moment,
)
from governance.motions import (
    Action,
    Motion,
    decode_action,
    split_of_action,
    values_of_action,
)
from governance.registry import GOVERNED
from ledger.chain.addresses import ZERO_ADDRESS, to_checksum
from ledger.models import ChainHead
from ledger.onchain import current_deployment
from ledger.splits import Part, Split

DEFAULT_PARTS = (
    Part("platform", 1000),
    Part("model_owner", 2000),
    Part("stakers", 2000),
    Part("contributors", 5000),
)
DEFAULT_SPLIT = Split(version=0, parts=DEFAULT_PARTS)


@dataclass(frozen=True)
class Parameters:
    """All governed values in force; `values` are integers by key, the split's parts among them."""

    version: int
    split: Split
    values: dict[str, int]

    def governed(self, key: str) -> int:
        """The number in force under a declared key, its default where none was set.

        Raises KeyError for a key that `governance.registry` does not declare.
        """
        declared = GOVERNED[key]
        return declared.obeyed(self.values[key]) if key in self.values else declared.default

    def is_default(self, key: str) -> bool:
        """Whether nobody ever set the value."""
        return key not in self.values


def current_parameters() -> Parameters:
    """What the newest final version says; the defaults, version 0, without a chain."""
    row = None
    if settings.CHAIN_ENABLED:
        row = ParameterVersion.objects.filter(state=ParameterVersion.State.IN_FORCE).first()
    return _parameters(row)


def current_split() -> Split:
    """The division of fees by the newest parameter version whose block is final."""
    return current_parameters().split


def split_of_version(version: int) -> Split:
    """The division of fees by that version. Raises ParameterVersion.DoesNotExist."""
    return parameters_of_version(version).split


def parameters_of_version(version: int) -> Parameters:
    """All governed values under that version. Raises ParameterVersion.DoesNotExist."""
    if version == 0:
        return _parameters(None)
    return _parameters(ParameterVersion.objects.get(version=version))


def governed(key: str, version: int | None = None) -> int:
    """A governed whole number in force, or under a version that was fixed earlier.

    Raises KeyError for a key that is not declared in `governance.registry`.
    """
    found = current_parameters() if version is None else parameters_of_version(version)
    return found.governed(key)


def _parameters(row: ParameterVersion | None) -> Parameters:
    if row is None:
        values = {
            ParameterVersion.SPLIT_KEYS[part.kind]: part.basis_points for part in DEFAULT_PARTS
        }
        return Parameters(0, DEFAULT_SPLIT, values)
    values = {key: int(value) for key, value in row.values.items()}
    parts = tuple(
        Part(part.kind, values[ParameterVersion.SPLIT_KEYS[part.kind]]) for part in DEFAULT_PARTS
    )
    return Parameters(row.version, Split(row.version, parts), values)


# ---------------------------------------------------------------------- the chain's clock


def chain_second() -> int:
    """The second of the newest mirrored block: the clock by which votes open and close."""
    head = ChainHead.objects.filter(chain_id=settings.CHAIN_ID).first()
    return head.timestamp if head else int(time.time())


# ---------------------------------------------------------------------- votes


def power_at(address: str, second: int) -> int:
    """Votes of a delegate (a checksummed address) at a second, in wei of GOPEN."""
    row = (
        PowerCheckpoint.objects.filter(address=address, second__lte=second)
        .order_by("-second")
        .first()
    )
    return row.votes if row else 0


def supply_at(second: int) -> int:
    """All GOPEN at a second, in wei."""
    return power_at(ZERO_ADDRESS, second)


def quorum_of(proposal: Proposal) -> int:
    """The votes for and abstaining that a proposal needs, in wei of GOPEN."""
    return supply_at(proposal.snapshot) * proposal.quorum_percent // 100


@dataclass(frozen=True)
class Holding:
    """One wallet of a person: what it holds, who votes with it, what it may say itself."""

    address: str
    balance: int
    delegate: str
    votes: int
    votes_at_snapshot: int | None = None

    @property
    def votes_itself(self) -> bool:
        return self.delegate.lower() == self.address.lower()


def holdings(addresses: Iterable[str], proposal: Proposal | None = None) -> list[Holding]:
    """What each address holds and may say, now and at the proposal's snapshot.

    Raises ValueError for what is no address.
    """
    now = chain_second()
    return [_holding(to_checksum(address), now, proposal) for address in addresses]


def holdings_of(user: User, proposal: Proposal | None = None) -> list[Holding]:
    """The same for a person's linked wallets."""
    linked = user.wallets.order_by("-is_primary", "created_at")
    return holdings(linked.values_list("address", flat=True), proposal)


def _holding(address: str, now: int, proposal: Proposal | None) -> Holding:
    balance = TokenBalance.objects.filter(address=address).first()
    delegation = Delegation.objects.filter(delegator=address).first()
    delegate = delegation.delegate if delegation else ""
    return Holding(
        address=address,
        balance=balance.balance if balance else 0,
        delegate="" if delegate == ZERO_ADDRESS else delegate,
        votes=power_at(address, now),
        votes_at_snapshot=power_at(address, proposal.snapshot) if proposal else None,
    )


def supply_now() -> int:
    return supply_at(chain_second())


# ---------------------------------------------------------------------- proposals


@dataclass(frozen=True)
class Moment:
    """One date of a proposal's life; `done` where the chain's clock has passed it."""

    label: str
    at: datetime | None
    done: bool


@dataclass(frozen=True)
class Standing:
    """A proposal as it stands at a second of the chain. Votes and quorum in wei of GOPEN."""

    proposal: Proposal
    state: ProposalState
    quorum: int
    supply: int
    timeline: Sequence[Moment]
    executable: bool

    @property
    def counted(self) -> int:
        """What counts towards the quorum."""
        return self.proposal.votes_for + self.proposal.votes_abstain

    @property
    def cast(self) -> int:
        return self.counted + self.proposal.votes_against

    @property
    def scale(self) -> int:
        """What a full bar stands for: the supply, or more where votes were cast before a burn."""
        return max(self.supply, self.cast, self.quorum, 1)

    def share(self, votes: int) -> float:
        """Votes as a percentage of a full bar."""
        return round(100 * votes / self.scale, 2)

    @property
    def bars(self) -> list[tuple[str, int, float, str]]:
        """Label, votes, percentage of a full bar, and the bar's name for the style sheet."""
        votes = self.proposal
        return [
            ("For", votes.votes_for, self.share(votes.votes_for), "for"),
            ("Against", votes.votes_against, self.share(votes.votes_against), "against"),
            ("Abstain", votes.votes_abstain, self.share(votes.votes_abstain), "abstain"),
        ]

    @property
    def quorum_share(self) -> float:
        return self.share(self.quorum)

    @property
    def quorum_missing(self) -> int:
        return max(0, self.quorum - self.counted)


def proposals() -> QuerySet[Proposal]:
    return Proposal.objects.all()


def standing(proposal: Proposal, second: int | None = None) -> Standing:
    """How a proposal stands now, or at a second of the chain."""
    now = chain_second() if second is None else second
    # Before the snapshot the quorum is what it would be at this moment.
    supply = supply_at(min(now, proposal.snapshot))
    quorum = supply * proposal.quorum_percent // 100
    state = proposal.state_at(now, quorum)
    executable = state == ProposalState.QUEUED and now >= (proposal.executable_at or 0)
    return Standing(proposal, state, quorum, supply, _timeline(proposal, state, now), executable)


def _timeline(proposal: Proposal, state: ProposalState, now: int) -> list[Moment]:
    if state == ProposalState.CANCELED:
        marks = [("Proposed", proposal.proposed_at), ("Taken back", proposal.canceled_at)]
    else:
        marks = [
            ("Proposed", proposal.proposed_at),
            ("Vote opens", proposal.snapshot),
            ("Vote closes", proposal.deadline),
            ("Queued", proposal.queued_at),
            ("May be executed", proposal.executable_at),
            ("Executed", proposal.executed_at),
        ]
    if state == ProposalState.DEFEATED:
        marks = marks[:3]
    return [
        Moment(label, moment(second), second is not None and second <= now)
        for label, second in marks
    ]


def motion_of(proposal: Proposal) -> Motion:
    """What to hand to `queue`, `execute` and `cancel`."""
    return Motion(
        targets=tuple(proposal.targets),
        values=tuple(int(value) for value in proposal.amounts),
        calldatas=tuple(bytes.fromhex(data.removeprefix("0x")) for data in proposal.calldatas),
        description=proposal.description,
    )


def actions_of(proposal: Proposal) -> list[Action]:
    """Its calls, decoded."""
    deployment = current_deployment()
    return [
        decode_action(deployment, target, value, data)
        for target, value, data in zip(
            proposal.targets, proposal.amounts, proposal.calldatas, strict=True
        )
    ]


def proposed_split(proposal: Proposal) -> dict[str, int] | None:
    """The split that it would set, in basis points; None where it sets none."""
    deployment = current_deployment()
    found = [
        split_of_action(deployment, target, data)
        for target, data in zip(proposal.targets, proposal.calldatas, strict=True)
    ]
    return next((split for split in found if split is not None), None)


def proposed_values(proposal: Proposal) -> dict[str, int]:
    """The governed numbers that it would set, by key; the last one where a key stands twice."""
    deployment = current_deployment()
    found: dict[str, int] = {}
    for target, data in zip(proposal.targets, proposal.calldatas, strict=True):
        found |= dict(values_of_action(deployment, target, data))
    return found


def parameters_before(proposal: Proposal) -> Parameters:
    """What an executed proposal replaced; what is in force for any other."""
    version = proposal.versions.order_by("version").first()
    if version is None:
        return current_parameters()
    return _parameters(ParameterVersion.objects.filter(version__lt=version.version).first())


def pending_version() -> ParameterVersion | None:
    """A version that is in a block which is not final yet."""
    if not settings.CHAIN_ENABLED:
        return None
    return ParameterVersion.objects.filter(state=ParameterVersion.State.SEEN).first()
