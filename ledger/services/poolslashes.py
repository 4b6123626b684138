"""Slashes of stakes in pools: proposed with evidence, appealed by the wallet, executed when due.

The chain decides; here its transactions are asked for. `StakePools` holds the stated share from the
proposal on, takes an appeal with its bond once, and takes the share when the window is over. Words
are kept as files whose hashes the chain has.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet

from accounts import audit
from accounts.models import User
from accounts.notifications import notify
from attribution.translog import canonical
from ledger import calldata
from ledger.errors import LedgerError, UnknownAccount
from ledger.models import (
    ChainHead,
    ChainLog,
    Intent,
    PoolSlash,
    SlashFile,
    StakePosition,
)
from ledger.onchain import require_deployment
from ledger.services.chain import request_intent
from ledger.splits import BASIS_POINTS

CONTRACT = "StakePools"
SCHEMA = "openledger-slash/1"
LONGEST = 4_000
SWEEP = 100
PROPOSAL, EXECUTION = "slash_file", "pool_slash"


class SlashRefused(LedgerError):
    """The slash, its appeal or its execution cannot be as things stand."""

    code = "slash_refused"


@dataclass(frozen=True, slots=True)
class SlashTerms:
    """What the contract holds for slashes that are proposed now: basis points, seconds, wei."""

    limit: int
    window: int
    bond: int


def slash_terms() -> SlashTerms | None:
    """The terms that hold now; None before the contract's first event was mirrored."""
    log = _newest("TermsChanged")
    if log is None:
        return None
    given = log.arguments["terms"]
    return SlashTerms(
        int(given["slashLimit"]), int(given["appealWindow"]), int(given["appealBond"])
    )


def is_paused() -> bool:
    log = _newest("PauseChanged")
    return log is not None and bool(log.arguments["paused"])


@transaction.atomic
def propose_pool_slash(
    *, pool_id: str, address: str, share: int, words: str, acting_user: User, at: datetime
) -> SlashFile:
    """Have the chain asked to take `share` basis points of a stake, for the reason in `words`.

    Whose stake it is is told once the proposal is in a block. Raises PermissionDenied (not staff,
    or one's own stake), UnknownAccount (nothing is staked there), SlashRefused, WaitingForChain.
    """
    if not acting_user.is_staff:
        raise PermissionDenied("Staff propose slashes of stakes in pools.")
    words = _checked(words, "Write down what shows it: everybody will read it.")
    position = (
        StakePosition.objects.select_for_update(of=("self",))
        .filter(pool__pool_id=pool_id, address__iexact=address)
        .first()
    )
    if position is None:
        raise UnknownAccount("Nothing is staked in this pool by this address.")
    if acting_user.wallets.filter(address__iexact=position.address).exists():
        raise PermissionDenied("Nobody slashes their own stake.")
    _check_share(position, share)
    _require_none_open(position)
    file = _write(
        SlashFile.Kind.EVIDENCE, words, acting_user, at, position=position, share_bps=share
    )
    intent = _ask(
        calldata.propose_slash(
            pool_id=_word(pool_id),
            account=position.address,
            share=share,
            evidence=_word(file.sha256),
        ),
        key=f"slash:{file.sha256}",
        cause=(PROPOSAL, file.pk),
        at=at,
    )
    file.intent_id, file.share = intent.pk, share
    file.save(force_insert=True)
    audit.record(
        actor=acting_user,
        verb="ledger.pool_slash_proposed",
        target=file,
        at=at,
        data={"pool": pool_id, "address": position.address, "share": share},
    )
    return file


@transaction.atomic
def write_appeal(*, slash: PoolSlash, words: str, acting_user: User, at: datetime) -> SlashFile:
    """Keep the statement of an appeal, whose hash the wallet then sends along with the bond.

    Raises PermissionDenied (the wallet is not linked to this account), SlashRefused.
    """
    address = slash.position.address
    if not acting_user.wallets.filter(address__iexact=address).exists():
        raise PermissionDenied("Only who staked can appeal: link the wallet to your account first.")
    words = _checked(words, "Say why the slash is wrong, and what shows it.")
    if slash.state != PoolSlash.State.PROPOSED:
        raise SlashRefused("This slash was appealed or closed before. Look at the page again.")
    if chain_second() >= slash.executable_at:
        raise SlashRefused("The time to appeal is over.")
    file = _write(
        SlashFile.Kind.STATEMENT, words, acting_user, at, position=slash.position,
        slash=slash.number,
    )  # fmt: skip
    file.save(force_insert=True)
    audit.record(
        actor=acting_user,
        verb="ledger.pool_slash_statement",
        target=file,
        at=at,
        data={"slash": slash.number, "sha256": file.sha256},
    )
    return file


@transaction.atomic
def execute_pool_slash(*, slash: PoolSlash, acting_user: User | None, at: datetime) -> Intent:
    """Have the chain asked to carry out a slash whose window is over; asked twice, once.

    Nobody need decide a slash without an appeal (`acting_user` None). One that was appealed is
    upheld by staff who did not propose it. Raises PermissionDenied, SlashRefused, WaitingForChain.
    """
    if acting_user is not None and not acting_user.is_staff:
        raise PermissionDenied("Staff execute slashes here; anybody may with a wallet.")
    if not slash.is_open:
        raise SlashRefused("This slash is closed already.")
    if slash.state == PoolSlash.State.APPEALED:
        if acting_user is None:
            raise SlashRefused("An appeal is decided by staff.")
        if evidence_of(slash) is not None and proposer_of(slash) == acting_user:
            raise PermissionDenied("Somebody else than who proposed it decides an appeal.")
    if chain_second() < slash.executable_at:
        raise SlashRefused(
            f"It may be executed from {_moment(slash.executable_at):%Y-%m-%d %H:%M} UTC on."
        )
    if is_paused():
        raise SlashRefused("The guardian has paused the contract; nothing is executed meanwhile.")
    known = executions_of(slash)
    going = known.exclude(state=Intent.State.FAILED).first()
    if going is not None:
        return going
    intent = _ask(
        calldata.execute_slash(slash.number),
        key=f"slash-execute:{slash.tx_hash}:{slash.number}:{known.count()}",
        cause=(EXECUTION, None),
        at=at,
    )
    audit.record(
        actor=acting_user,
        verb="ledger.pool_slash_executed",
        target=intent,
        at=at,
        data={"slash": slash.number, "amount": str(slash.amount)},
    )
    return intent


def execute_due_pool_slashes(*, at: datetime) -> int:
    """Ask for those whose window closed without an appeal; returns how many. Beat calls it."""
    due = PoolSlash.objects.filter(
        state=PoolSlash.State.PROPOSED, executable_at__lte=chain_second()
    ).order_by("number")
    count = 0
    for slash in due[:SWEEP]:
        if executions_of(slash).exists():
            # On its way, or refused by the chain: staff look at that one.
            continue
        try:
            execute_pool_slash(slash=slash, acting_user=None, at=at)
        except LedgerError:
            continue
        count += 1
    return count


def on_intent_changed(intent: Intent, at: datetime) -> None:
    """The chain refused a proposal for good: who proposed it is told why."""
    if intent.state != Intent.State.FAILED or intent.cause_kind != PROPOSAL:
        return
    file = SlashFile.objects.select_related("author").filter(intent_id=intent.pk).first()
    if file is not None:
        notify(
            user=file.author,
            kind="ledger.slash_refused",
            at=at,
            url=f"/explorer/intents/{intent.pk}/",
            title="The chain refused the slash that you proposed",
            body=intent.failure_reason,
        )


def evidence_of(slash: PoolSlash) -> SlashFile | None:
    """The words of whoever proposed it; None where it was proposed past this server."""
    return SlashFile.objects.select_related("author").filter(sha256=slash.evidence).first()


def statement_of(slash: PoolSlash) -> SlashFile | None:
    found = SlashFile.objects.select_related("author").filter(sha256=slash.statement)
    return found.first() if slash.statement else None


def proposer_of(slash: PoolSlash) -> User | None:
    file = evidence_of(slash)
    return file.author if file else None


def executions_of(slash: PoolSlash) -> QuerySet[Intent]:
    # By its transaction as well: after a reorganisation the number may be another slash's.
    return Intent.objects.filter(key__startswith=f"slash-execute:{slash.tx_hash}:{slash.number}:")


def chain_second() -> int:
    head = ChainHead.objects.filter(chain_id=settings.CHAIN_ID).first()
    return head.timestamp if head else 0


def _ask(data: bytes, *, key: str, cause: tuple[str, Any], at: datetime) -> Intent:
    return request_intent(
        kind=Intent.Kind.SLASH,
        to=require_deployment().address(CONTRACT),
        data=data,
        key=key,
        cause_kind=cause[0],
        cause_id=cause[1],
        at=at,
    )


def _check_share(position: StakePosition, share: int) -> None:
    terms = slash_terms()
    if terms is None:
        raise SlashRefused("The contract's terms are not mirrored yet. Try again in a moment.")
    if isinstance(share, bool) or not isinstance(share, int) or not 1 <= share <= terms.limit:
        raise SlashRefused(f"A slash takes 0.01 to {terms.limit / 100:g} % of a stake at once.")
    if (position.staked + position.cooling) * share // BASIS_POINTS == 0:
        raise SlashRefused("That share of this stake is nothing.")


def _require_none_open(position: StakePosition) -> None:
    if position.slashes.filter(state__in=PoolSlash.OPEN).exists():
        raise SlashRefused("A slash of this stake is open; it must be closed first.")
    files = SlashFile.objects.filter(
        kind=SlashFile.Kind.EVIDENCE,
        pool_id=position.pool.pool_id,
        address=position.address,
    )
    mirrored = PoolSlash.objects.filter(evidence__in=files.values("sha256"))
    waiting = files.exclude(sha256__in=mirrored.values("evidence"))
    on_its_way = Intent.objects.filter(cause_kind=PROPOSAL, cause_id__in=waiting.values("pk"))
    if on_its_way.exclude(state=Intent.State.FAILED).exists():
        raise SlashRefused("A slash of this stake is on its way to the chain already.")


def _write(
    kind: SlashFile.Kind, words: str, author: User, at: datetime, *, position: StakePosition,
    **facts: int,
) -> SlashFile:  # fmt: skip
    told = {
        "schema": SCHEMA,
        "kind": kind.lower(),
        "chain": settings.CHAIN_ID,
        "pool": position.pool.pool_id,
        "address": position.address,
        "words": words,
        "by": author.handle,
        "at": at.astimezone(UTC).isoformat(timespec="milliseconds"),
    }
    try:
        body = canonical.dumps(told | facts)
    except canonical.CanonicalError:
        raise SlashRefused("Half a character stands in the text. Write it again.") from None
    return SlashFile(
        kind=kind,
        sha256="0x" + hashlib.sha256(body).hexdigest(),
        body=body.decode(),
        words=words,
        author=author,
        pool_id=position.pool.pool_id,
        address=position.address,
        created_at=at,
    )


def _checked(words: str, wanted: str) -> str:
    words = words.strip()
    if not words or len(words) > LONGEST:
        raise SlashRefused(wanted if not words else f"Use at most {LONGEST} characters.")
    return words


def _newest(event: str) -> ChainLog | None:
    logs = ChainLog.objects.filter(
        contract=CONTRACT, event=event, block__chain_id=settings.CHAIN_ID
    )
    return logs.order_by("-block__number", "-log_index").first()


def _word(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _moment(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)
