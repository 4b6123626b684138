"""Transactions, blocks and addresses as the mirror has them: what is ours in each.

What a stranger may not know stays out: an argument of an event that names somebody's private
account is left empty for everybody but its owner and staff.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Q, QuerySet

from accounts.models import User
from ledger import truth
from ledger.calldata import id_from_word
from ledger.chain.addresses import to_checksum
from ledger.models import (
    Account,
    ChainBlock,
    ChainHead,
    ChainLog,
    ChainWallet,
    Claim,
    DistributionLeaf,
    Entry,
    GoneBlock,
    Intent,
    IntentAttempt,
    PayoutAddress,
)
from ledger.onchain import current_deployment
from ledger.truth import Truth

HASH = re.compile(r"0x[0-9a-f]{64}")
# How the keys of entries begin that an event of the chain caused.
OF_EVENTS = ("deposit", "funding", "gift", "claim", "withdrawal", "receivable", "stake")
SHOWN = 50


@dataclass(frozen=True, slots=True)
class Event:
    """A log of one of our contracts; `arguments` are names and values as text."""

    log: ChainLog
    arguments: Sequence[tuple[str, str]]
    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class Transaction:
    hash: str
    truth: Truth
    intents: Sequence[Intent]
    attempts: Sequence[IntentAttempt]
    events: Sequence[Event]
    replaced: bool


@dataclass(frozen=True, slots=True)
class Block:
    """A block that the mirror has, with our events in it; or one that is gone."""

    block: ChainBlock | GoneBlock
    truth: Truth
    gone: bool
    events: Sequence[Event]
    intents: Sequence[Intent]

    @property
    def time(self) -> datetime | None:
        """When it was made; not known of one that is gone."""
        if isinstance(self.block, GoneBlock):
            return None
        return datetime.fromtimestamp(self.block.timestamp, UTC)


@dataclass(frozen=True, slots=True)
class Address:
    address: str
    contract: str
    holder: User | None
    payout: PayoutAddress | None
    wallet: ChainWallet | None
    leaves: Sequence[DistributionLeaf]
    claims: Sequence[Claim]
    sent: Sequence[Intent]


def transaction(tx_hash: str, user: Any) -> Transaction | None:
    """Everything of ours in one transaction; None where nothing is."""
    tx_hash = tx_hash.lower()
    if not HASH.fullmatch(tx_hash):
        return None
    attempts = list(IntentAttempt.objects.filter(tx_hash=tx_hash).select_related("intent"))
    intents = list(
        Intent.objects.filter(
            Q(tx_hash=tx_hash) | Q(pk__in=[one.intent_id for one in attempts])
        ).order_by("id")
    )
    logs = list(_logs().filter(tx_hash=tx_hash))
    if not intents and not logs:
        return None
    replaced = bool(intents) and all(one.tx_hash != tx_hash for one in intents)
    at = truth.head()
    return Transaction(
        hash=tx_hash,
        truth=_truth_of_transaction(tx_hash, intents, logs, replaced, at),
        intents=intents,
        attempts=attempts,
        events=_events(logs, user),
        replaced=replaced and not logs,
    )


def block(text: str, user: Any) -> Block | None:
    """The block with that number or hash; None where the mirror never had it, or needs it no more.

    A hash of a block that a reorganisation took away is found too.
    """
    found = truth.block_of(text)
    at = truth.head()
    if found is not None:
        told = truth.of_block(found.number, at)
        logs = list(_logs().filter(block=found))
        return Block(found, told, False, _events(logs, user), _intents_in(found.hash))
    gone = GoneBlock.objects.filter(chain_id=settings.CHAIN_ID, hash=text.lower()).first()
    if gone is None:
        return None
    words = (
        "Gone in a reorganisation; what it held was taken back. "
        f"Block {gone.number} is another one now."
    )
    return Block(gone, Truth(truth.State.FAILED, words, True), True, [], [])


def address(text: str) -> Address | None:
    """What of ours an address is: a contract, a wallet of a person, a payee, a sender."""
    try:
        wanted = to_checksum(text)
    except ValueError:
        return None
    deployment = current_deployment()
    payout = PayoutAddress.objects.filter(address__iexact=wanted).first()
    wallet = ChainWallet.objects.filter(chain_id=settings.CHAIN_ID, address__iexact=wanted).first()
    found = Address(
        address=wanted,
        contract=deployment.name(wanted) if deployment else "",
        holder=User.objects.filter(wallets__address__iexact=wanted).first(),
        payout=payout,
        wallet=wallet,
        leaves=_leaves(payout),
        claims=list(payout.claims.all()[:SHOWN]) if payout else [],
        sent=list(wallet.intents.order_by("-id")[:SHOWN]) if wallet else [],
    )
    known = found.contract or found.holder or found.payout or found.wallet
    return found if known else None


def _truth_of_transaction(
    tx_hash: str,
    intents: Sequence[Intent],
    logs: Sequence[ChainLog],
    replaced: bool,
    at: ChainHead | None,
) -> Truth:
    if logs:
        return truth.of_block(logs[0].block.number, at)
    if replaced:
        words = "Signed and kept, but another transaction with the same nonce took its place."
        return Truth(truth.State.FAILED, words, intents[0].state in Intent.SETTLED)
    told = truth.of_intent(intents[0], at)
    return Truth(told.state, told.words, told.settled, told.confirmations, told.block_number)


def _logs() -> QuerySet[ChainLog]:
    return (
        ChainLog.objects.filter(block__chain_id=settings.CHAIN_ID)
        .select_related("block")
        .order_by("block__number", "log_index")
    )


def _intents_in(block_hash: str) -> list[Intent]:
    return list(Intent.objects.filter(block_hash=block_hash).order_by("id"))


def _leaves(payout: PayoutAddress | None) -> list[DistributionLeaf]:
    if payout is None:
        return []
    added = payout.leaves.filter(amount__gt=0).select_related("distribution")
    return list(added.order_by("-distribution__epoch")[:SHOWN])


def _events(logs: Sequence[ChainLog], user: Any) -> list[Event]:
    hidden = _private_accounts(logs, user)
    entries = _entries_of(logs)
    return [
        Event(
            log=log,
            arguments=[
                (name, "" if _account_id(value) in hidden else _text(value))
                for name, value in log.arguments.items()
            ],
            entries=entries[log.pk],
        )
        for log in logs
    ]


def _private_accounts(logs: Sequence[ChainLog], user: Any) -> set[UUID]:
    """Accounts that the events name and `user` may not see."""
    named = {pk for log in logs for value in log.arguments.values() if (pk := _account_id(value))}
    if not named:
        return set()
    known = Account.objects.filter(pk__in=named)
    seen = set(Account.objects.visible_to(user).filter(pk__in=named).values_list("pk", flat=True))
    return set(known.values_list("pk", flat=True)) - seen


def _account_id(value: Any) -> UUID | None:
    if not isinstance(value, str) or not HASH.fullmatch(value.lower()):
        return None
    return id_from_word(bytes.fromhex(value[2:]))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_text(part) for part in value)
    return str(value)


def _entries_of(logs: Sequence[ChainLog]) -> dict[UUID, list[Entry]]:
    """Entries by the log that caused them; their key has the log's place in its transaction."""
    places: dict[str, UUID] = {}
    counted: dict[tuple[UUID, str], int] = defaultdict(int)
    for log in _with_siblings(logs):
        place = counted[log.block_id, log.tx_hash]
        counted[log.block_id, log.tx_hash] += 1
        for kind in OF_EVENTS:
            places[f"{kind}:{settings.CHAIN_ID}:{log.tx_hash.lower()}:{place}"] = log.pk
    found: dict[UUID, list[Entry]] = defaultdict(list)
    for entry in Entry.objects.filter(idempotency_key__in=places).order_by("id"):
        found[places[entry.idempotency_key]].append(entry)
    return found


def _with_siblings(logs: Iterable[ChainLog]) -> QuerySet[ChainLog]:
    """All our logs of the same transactions, in order, since a place counts from the first."""
    return _logs().filter(tx_hash__in={log.tx_hash for log in logs})
