"""Turns the governed contracts' events into our tables, in the order of the chain.

The tables hold nothing that the events do not: after a reorganisation they are emptied and built
again. A fold costs one pass over the new events; building again costs one over all of them, which
is rare and small (votes and transfers of GOPEN, not of money).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q

from accounts import audit, events
from governance.models import (
    Delegation,
    MirrorCursor,
    ParameterVersion,
    PowerCheckpoint,
    Proposal,
    SettingChange,
    TokenBalance,
    Vote,
)
from governance.motions import key_text, kind_of, title_of
from ledger.chain.addresses import ZERO_ADDRESS
from ledger.models import ChainHead, ChainLog

CONTRACTS = ("GovernanceToken", "OpenGovernor", "Timelock", "Parameters", "RewardDistributor")
LOCK = 0x676F_7665  # "gove"
BATCH = 2_000
SUPPLY = ZERO_ADDRESS

# Event of a contract -> the key of the parameters page, and the names of its two arguments.
SETTINGS: dict[tuple[str, str], tuple[str, str, str]] = {
    ("OpenGovernor", "VotingDelaySet"): ("voting_delay", "oldVotingDelay", "newVotingDelay"),
    ("OpenGovernor", "VotingPeriodSet"): ("voting_period", "oldVotingPeriod", "newVotingPeriod"),
    ("OpenGovernor", "ProposalThresholdSet"): (
        "proposal_threshold",
        "oldProposalThreshold",
        "newProposalThreshold",
    ),
    ("OpenGovernor", "QuorumNumeratorUpdated"): (
        "quorum_percent",
        "oldQuorumNumerator",
        "newQuorumNumerator",
    ),
    ("OpenGovernor", "LateQuorumVoteExtensionSet"): (
        "late_quorum_extension",
        "oldVoteExtension",
        "newVoteExtension",
    ),
    ("Timelock", "MinDelayChange"): ("timelock_delay", "oldDuration", "newDuration"),
    ("RewardDistributor", "DelayChanged"): ("distribution_delay", "previous", "delay"),
}


@transaction.atomic
def mirror(*, at: datetime) -> int:
    """Take in every event since the last; returns how many. Safe to call at any time."""
    _one_at_a_time()
    cursor, _ = MirrorCursor.objects.get_or_create(chain_id=settings.CHAIN_ID)
    logs = list(_after(cursor)[:BATCH])
    for log in logs:
        _apply(log)
    if logs:
        cursor.block_number, cursor.log_index = logs[-1].block.number, logs[-1].log_index
        cursor.save(update_fields=["block_number", "log_index"])
    _put_in_force(at)
    return len(logs)


@transaction.atomic
def rebuild(*, at: datetime) -> None:
    """Forget everything and take it in again: blocks that some of it came from are gone.

    Versions that were in force stay so where the chain still has them.
    """
    _one_at_a_time()
    for model in (
        Vote, ParameterVersion, SettingChange, Proposal, Delegation, TokenBalance,
        PowerCheckpoint, MirrorCursor,
    ):  # fmt: skip
        model._default_manager.all().delete()
    while mirror(at=at):
        pass


def _after(cursor: MirrorCursor) -> Any:
    later = Q(block__number__gt=cursor.block_number) | Q(
        block__number=cursor.block_number, log_index__gt=cursor.log_index
    )
    return (
        ChainLog.objects.filter(later, contract__in=CONTRACTS, block__chain_id=cursor.chain_id)
        .select_related("block")
        .order_by("block__number", "log_index")
    )


def _apply(log: ChainLog) -> None:
    setting = SETTINGS.get((log.contract, log.event))
    if setting is not None:
        _setting(log, *setting)
        return
    handler = _HANDLERS.get((log.contract, log.event))
    if handler is not None:
        handler(log, log.arguments)


def _setting(log: ChainLog, key: str, before: str, after: str) -> None:
    SettingChange.objects.create(
        key=key,
        contract=log.contract,
        previous=log.arguments[before],
        value=log.arguments[after],
        block_number=log.block.number,
        log_index=log.log_index,
        tx_hash=log.tx_hash,
        changed_at=log.block.timestamp,
    )


# ---------------------------------------------------------------------- GOPEN


def _transferred(log: ChainLog, given: dict[str, Any]) -> None:
    amount = int(given["value"])
    for address, change in ((given["from"], -amount), (given["to"], amount)):
        if address == ZERO_ADDRESS:
            # Minted from, burnt to: the supply changes the other way.
            last = PowerCheckpoint.objects.filter(address=SUPPLY).order_by("-second").first()
            _checkpoint(log, SUPPLY, (last.votes if last else 0) - change)
            continue
        row, _ = TokenBalance.objects.get_or_create(address=address)
        row.balance += change
        row.save(update_fields=["balance"])


def _votes_changed(log: ChainLog, given: dict[str, Any]) -> None:
    _checkpoint(log, given["delegate"], int(given["newVotes"]))


def _checkpoint(log: ChainLog, address: str, votes: int) -> None:
    PowerCheckpoint.objects.update_or_create(
        address=address, second=log.block.timestamp, defaults={"votes": votes}
    )


def _delegated(log: ChainLog, given: dict[str, Any]) -> None:
    Delegation.objects.update_or_create(
        delegator=given["delegator"],
        defaults={"delegate": given["toDelegate"], "since": log.block.timestamp},
    )


# ---------------------------------------------------------------------- proposals


def _proposed(log: ChainLog, given: dict[str, Any]) -> None:
    quorum = SettingChange.objects.filter(key="quorum_percent").first()
    Proposal.objects.create(
        number=given["proposalId"],
        kind=kind_of(given["targets"], given["calldatas"]),
        proposer=given["proposer"],
        title=title_of(given["description"]),
        description=given["description"],
        targets=given["targets"],
        amounts=given["values"],
        calldatas=given["calldatas"],
        proposed_at=log.block.timestamp,
        snapshot=int(given["voteStart"]),
        deadline=int(given["voteEnd"]),
        quorum_percent=int(quorum.value) if quorum else 0,
        tx_hash=log.tx_hash,
        block_number=log.block.number,
    )


def _voted(log: ChainLog, given: dict[str, Any]) -> None:
    proposal = Proposal.objects.get(number=given["proposalId"])
    vote = Vote.objects.create(
        proposal=proposal,
        voter=given["voter"],
        support=int(given["support"]),
        weight=int(given["weight"]),
        reason=given["reason"],
        voted_at=log.block.timestamp,
        tx_hash=log.tx_hash,
    )
    field = {0: "votes_against", 1: "votes_for", 2: "votes_abstain"}[vote.support]
    setattr(proposal, field, getattr(proposal, field) + vote.weight)
    proposal.save(update_fields=[field])


def _extended(log: ChainLog, given: dict[str, Any]) -> None:
    Proposal.objects.filter(number=given["proposalId"]).update(
        deadline=int(given["extendedDeadline"])
    )


def _queued(log: ChainLog, given: dict[str, Any]) -> None:
    Proposal.objects.filter(number=given["proposalId"]).update(
        queued_at=log.block.timestamp, executable_at=int(given["etaSeconds"])
    )


def _executed(log: ChainLog, given: dict[str, Any]) -> None:
    proposal = Proposal.objects.get(number=given["proposalId"])
    proposal.executed_at = log.block.timestamp
    proposal.save(update_fields=["executed_at"])
    # What it changed was told before it, in the same transaction.
    for changed in (ParameterVersion.objects, SettingChange.objects):
        changed.filter(tx_hash=log.tx_hash).update(proposal=proposal)


def _canceled(log: ChainLog, given: dict[str, Any]) -> None:
    Proposal.objects.filter(number=given["proposalId"]).update(canceled_at=log.block.timestamp)


# ---------------------------------------------------------------------- parameters


def _parameter_changed(log: ChainLog, given: dict[str, Any]) -> None:
    number = int(given["version"])
    key = key_text(bytes.fromhex(given["key"].removeprefix("0x")))
    row = ParameterVersion.objects.filter(version=number).first()
    if row is None:
        before = ParameterVersion.objects.filter(version__lt=number).first()
        row = ParameterVersion(
            version=number,
            values=dict(before.values) if before else {},
            block_number=log.block.number,
            tx_hash=log.tx_hash,
            changed_at=log.block.timestamp,
        )
    row.values = {**row.values, key: given["value"]}
    # One call may set a key twice (see `values_motion`): what it was before the first stands.
    is_told = any(change["key"] == key for change in row.changed)
    if given["previous"] != given["value"] and not is_told:
        row.changed = [*row.changed, {"key": key, "previous": given["previous"]}]
    row.save()


def _put_in_force(at: datetime) -> None:
    head = ChainHead.objects.filter(chain_id=settings.CHAIN_ID).first()
    if head is None:
        return
    waiting = ParameterVersion.objects.filter(
        state=ParameterVersion.State.SEEN, block_number__lte=head.final_number
    )
    for version in waiting.order_by("version"):
        version.state = ParameterVersion.State.IN_FORCE
        version.save(update_fields=["state"])
        audit.record(
            actor=None,
            verb="governance.parameters_in_force",
            target=version,
            at=at,
            data={"version": version.version, "changed": version.changed},
        )
        events.emit("governance.parameters_in_force", {"version": version.version}, at=at)


def _one_at_a_time() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])


Handler = Callable[[ChainLog, dict[str, Any]], None]
_HANDLERS: dict[tuple[str, str], Handler] = {
    ("GovernanceToken", "Transfer"): _transferred,
    ("GovernanceToken", "DelegateVotesChanged"): _votes_changed,
    ("GovernanceToken", "DelegateChanged"): _delegated,
    ("OpenGovernor", "ProposalCreated"): _proposed,
    ("OpenGovernor", "VoteCast"): _voted,
    ("OpenGovernor", "VoteCastWithParams"): _voted,
    ("OpenGovernor", "ProposalExtended"): _extended,
    ("OpenGovernor", "ProposalQueued"): _queued,
    ("OpenGovernor", "ProposalExecuted"): _executed,
    ("OpenGovernor", "ProposalCanceled"): _canceled,
    ("Parameters", "ParameterChanged"): _parameter_changed,
}
