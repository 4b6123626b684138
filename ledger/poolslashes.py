"""What the pages and the API read of slashes of stakes in pools, and calls for a wallet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db.models import QuerySet

from accounts.models import User
from ledger.models import Intent, PoolSlash, SlashFile, StakePool, StakePosition
from ledger.onchain import wallet_call
from ledger.services.poolslashes import (
    CONTRACT,
    SlashTerms,
    chain_second,
    evidence_of,
    executions_of,
    slash_terms,
    statement_of,
)
from ledger.splits import BASIS_POINTS
from ledger.stakepools import refusals

ACTIONS = ("execute", "cancel")
SHOWN = 200


@dataclass(frozen=True, slots=True)
class SlashView:
    """A slash as its page shows it: what stands behind its hashes, and who may do what now."""

    slash: PoolSlash
    evidence: SlashFile | None
    statement: SlashFile | None
    executable_at: datetime
    is_due: bool
    execution: Intent | None
    may_appeal: bool
    may_uphold: bool


@dataclass(frozen=True, slots=True)
class Slashable:
    """A position with what a slash of the whole limit would take, in wei."""

    position: StakePosition
    staked: int
    at_most: int


def slashes() -> QuerySet[PoolSlash]:
    return PoolSlash.objects.select_related("position__pool").order_by("-number")


def view_of(slash: PoolSlash, user: Any) -> SlashView:
    evidence = evidence_of(slash)
    is_due = chain_second() >= slash.executable_at
    execution = executions_of(slash).order_by("-id").first() if slash.is_open else None
    going = execution is not None and execution.state != Intent.State.FAILED
    proposed_it = evidence is not None and evidence.author == user
    return SlashView(
        slash=slash,
        evidence=evidence,
        statement=statement_of(slash),
        executable_at=datetime.fromtimestamp(slash.executable_at, UTC),
        is_due=is_due,
        execution=execution,
        may_appeal=(
            slash.state == PoolSlash.State.PROPOSED and not is_due and owns(slash.position, user)
        ),
        may_uphold=(
            slash.is_open
            and is_due
            and not going
            and getattr(user, "is_staff", False)
            and not (slash.state == PoolSlash.State.APPEALED and proposed_it)
        ),
    )


def owns(position: StakePosition, user: Any) -> bool:
    if not isinstance(user, User):
        return False
    return user.wallets.filter(address__iexact=position.address).exists()


def on_their_way(pool: StakePool) -> list[tuple[SlashFile, Intent]]:
    """Proposals that the chain, or our mirror of it, does not have yet, and refused ones."""
    files = SlashFile.objects.filter(pool_id=pool.pool_id, kind=SlashFile.Kind.EVIDENCE)
    mirrored = PoolSlash.objects.filter(position__pool=pool).values("evidence")
    waiting = list(files.exclude(sha256__in=mirrored).select_related("author")[:20])
    intents = Intent.objects.in_bulk([one.intent_id for one in waiting if one.intent_id])
    return [(one, intents[one.intent_id]) for one in waiting if one.intent_id in intents]


def slashable(pool: StakePool, terms: SlashTerms | None) -> Sequence[Slashable]:
    """Positions of a pool that hold something and that no open slash holds, the largest first."""
    if terms is None:
        return []
    found = pool.positions.exclude(slashes__state__in=PoolSlash.OPEN).order_by("-staked", "id")
    rows = [(one, one.staked + one.cooling) for one in found[:SHOWN]]
    return [
        Slashable(one, whole, whole * terms.limit // BASIS_POINTS) for one, whole in rows if whole
    ]


def terms() -> SlashTerms | None:
    return slash_terms()


def call_for(slash: PoolSlash, action: str, *, statement: str = "") -> dict[str, Any]:
    """A transaction for a wallet, and the same in words. Raises WaitingForChain."""
    if action == "appeal":
        word = bytes.fromhex(statement.removeprefix("0x"))
        call = wallet_call(CONTRACT, "appeal", slash.number, word, value=slash.bond)
        signature = "appeal(uint64,bytes32)"
    elif action == "execute":
        call = wallet_call(CONTRACT, "executeSlash", slash.number)
        signature = "executeSlash(uint64)"
    else:
        call = wallet_call(CONTRACT, "cancelSlash", slash.number)
        signature = "cancelSlash(uint64)"
    return {"call": call, "function": signature, "refusals": refusals()}
