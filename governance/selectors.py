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
    SettingChange,
    TokenBalance,
    moment,
)
from governance.motions import Action, Motion, decode_action, split_of_action
from governance.words import SETTING_WORDS, show_setting
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
    if version == 0:
        return DEFAULT_SPLIT
    return _parameters(ParameterVersion.objects.get(version=version)).split


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


def split_before(proposal: Proposal) -> Split:
    """The split that an executed proposal replaced; the one in force for any other."""
    version = proposal.versions.order_by("version").first()
    if version is None:
        return current_split()
    earlier = ParameterVersion.objects.filter(version__lt=version.version).first()
    return _parameters(earlier).split


# ---------------------------------------------------------------------- the parameters page


@dataclass(frozen=True)
class ParameterRow:
    """One governed value: what it is, who can change it, when it last did."""

    key: str
    label: str
    shown: str
    changed_by: str
    changed_at: datetime | None
    version: int | None
    proposal: Proposal | None
    tx_hash: str


def parameter_rows() -> list[ParameterRow]:
    """Every governed value in force, with its last change."""
    return [*_split_rows(), *_setting_rows()]


def pending_version() -> ParameterVersion | None:
    """A version that is in a block which is not final yet."""
    if not settings.CHAIN_ENABLED:
        return None
    return ParameterVersion.objects.filter(state=ParameterVersion.State.SEEN).first()


def _split_rows() -> list[ParameterRow]:
    parameters = current_parameters()
    versions = list(
        ParameterVersion.objects.filter(state=ParameterVersion.State.IN_FORCE).select_related(
            "proposal"
        )
    )
    rows = []
    for key in ParameterVersion.SPLIT_KEYS.values():
        last = next((v for v in versions if any(c["key"] == key for c in v.changed)), None)
        last = last if settings.CHAIN_ENABLED else None
        rows.append(
            ParameterRow(
                key=key,
                label=SETTING_WORDS[key],
                shown=show_setting(key, parameters.values[key]),
                changed_by="The holders of GOPEN, by a proposal"
                if settings.CHAIN_ENABLED
                else "Nobody: this instance has no chain",
                changed_at=moment(last.changed_at) if last else None,
                version=last.version if last else None,
                proposal=last.proposal if last else None,
                tx_hash=last.tx_hash if last else "",
            )
        )
    return rows


def _setting_rows() -> list[ParameterRow]:
    if not settings.CHAIN_ENABLED:
        return []
    newest: dict[str, SettingChange] = {}
    for change in SettingChange.objects.select_related("proposal"):
        newest.setdefault(change.key, change)
    return [
        ParameterRow(
            key=key,
            label=SETTING_WORDS[key],
            shown=show_setting(key, int(newest[key].value)),
            changed_by="The holders of GOPEN, by a proposal",
            changed_at=moment(newest[key].changed_at),
            version=None,
            proposal=newest[key].proposal,
            tx_hash=newest[key].tx_hash,
        )
        for key in SETTING_WORDS
        if key in newest
    ]
