"""The three states of truth, told in the same words on every page and in the API.

RECORDED: it stands in our database. SUBMITTED: a transaction with it was sent, and may still be
replaced or reorganised. FINAL: its block cannot go any more. What FAILED says why. Everything here
is read from the mirror; no node is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from django.conf import settings
from django.db.models import Q

from ledger.models import (
    ChainBlock,
    ChainHead,
    ChainLog,
    Claim,
    Distribution,
    Entry,
    Intent,
    Withdrawal,
)
from ledger.words import open_text

# An entry that an event of the chain caused is keyed by chain, transaction and place in it.
OF_AN_EVENT = re.compile(r"[a-z-]+:\d+:(0x[0-9a-f]+):\d+")
OF_A_WITHDRAWAL = (Entry.Kind.WITHDRAWAL, Entry.Kind.PAYOUT, Entry.Kind.RETURN)
NOTHING_SENT = "Recorded; nothing was sent to the chain yet."
LEDGER_ALONE = (
    "An entry of the ledger, which never changes. Nothing of it goes to the chain by itself."
)


class State(StrEnum):
    RECORDED = "RECORDED"
    SUBMITTED = "SUBMITTED"
    FINAL = "FINAL"
    FAILED = "FAILED"

    @property
    def chip(self) -> str:
        """The colour class; the word itself always stands beside it."""
        return {"SUBMITTED": "chip--info", "FINAL": "chip--good", "FAILED": "chip--bad"}.get(
            self.value, ""
        )


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    done: bool
    current: bool


@dataclass(frozen=True, slots=True)
class Truth:
    """How far something is, in one sentence; `settled` means that nothing more will happen."""

    state: State
    words: str
    settled: bool
    confirmations: int | None = None
    block_number: int | None = None
    tx_hash: str = ""

    @property
    def steps(self) -> Sequence[Step]:
        order = (State.RECORDED, State.SUBMITTED, State.FINAL)
        reached = 0 if self.state == State.FAILED else order.index(self.state)
        ended = self.state == State.FINAL
        return [
            Step(state.title(), place < reached or ended, place == reached and not ended)
            for place, state in enumerate(order)
        ]


NOT_SENT = Truth(State.RECORDED, NOTHING_SENT, False)


def head() -> ChainHead | None:
    """How far the chain of this instance was read."""
    return ChainHead.objects.filter(chain_id=settings.CHAIN_ID).first()


def confirmations(number: int | None, at: ChainHead | None) -> int | None:
    """Blocks from `number` to the head that was read, both counted; None while it is not there."""
    if number is None or at is None or number > at.number:
        return None
    return at.number - number + 1


def of_block(number: int, at: ChainHead | None, *, tx_hash: str = "") -> Truth:
    """What stands in block `number`, which the mirror has."""
    depth = confirmations(number, at)
    if at is not None and number <= at.final_number:
        words = f"In block {number}, which is final."
        return Truth(State.FINAL, words, True, depth, number, tx_hash)
    safe = at is not None and number <= at.safe_number
    words = f"In block {number}, {'which is safe and not final yet' if safe else 'not final yet'}."
    return Truth(State.SUBMITTED, words, False, depth, number, tx_hash)


def of_intent(intent: Intent, at: ChainHead | None = None) -> Truth:
    """What we asked of the chain. `at` saves a query where the caller has the head already."""
    at = at or head()
    state = Intent.State(intent.state)
    number, tx_hash = intent.block_number, intent.tx_hash
    depth = confirmations(number, at)
    if state == Intent.State.FAILED:
        words = intent.failure_reason or "The chain refused it."
        return Truth(State.FAILED, words, True, depth, number, tx_hash)
    if state == Intent.State.FINAL:
        words = f"In block {number}, which is final." if number is not None else "Final."
        return Truth(State.FINAL, words, True, depth, number, tx_hash)
    if state in (Intent.State.MINED, Intent.State.SAFE):
        kind = "safe and not final yet" if state == Intent.State.SAFE else "not final yet"
        return Truth(State.SUBMITTED, f"In block {number}, {kind}.", False, depth, number, tx_hash)
    if state == Intent.State.SEEN:
        words = "Submitted; it waits for a block."
        return Truth(State.SUBMITTED, words, False, tx_hash=tx_hash)
    words = "Signed; it is being sent." if state == Intent.State.SIGNED else why_not_sent(intent)
    return Truth(State.RECORDED, words, False, tx_hash=tx_hash)


def why_not_sent(intent: Intent) -> str:
    """Why nothing was signed for a recorded intent."""
    if not intent.waits_for_staff:
        return NOTHING_SENT
    return (
        f"Recorded; it moves {open_text(intent.outflow)} OPEN, which is over the cap of "
        f"{open_text(intent.held_by_cap)}, so a member of staff looks at it before it goes."
    )


def why_funding_waits(distribution: Distribution) -> str:
    """Why its funding waits for a person; "" where it does not."""
    if distribution.funding_intent_id is None:
        return ""
    funding = Intent.objects.filter(pk=distribution.funding_intent_id).first()
    return why_not_sent(funding) if funding is not None and funding.waits_for_staff else ""


def of_distribution(distribution: Distribution, at: ChainHead | None = None) -> Truth:
    """A distribution is as true as its root: FINAL once the root's own transaction is."""
    state = Distribution.State(distribution.state)
    if state == Distribution.State.FAILED:
        words = distribution.failure_reason or "The chain refused it; staff start it again."
        return Truth(State.FAILED, words, False)
    intents = [distribution.activation_intent_id, distribution.root_intent_id]
    asked = next((pk for pk in intents if pk is not None), None)
    intent = Intent.objects.filter(pk=asked).first() if asked else None
    if state == Distribution.State.ACTIVE:
        if intent is None or intent.state in (Intent.State.FAILED, Intent.State.NEW):
            return Truth(State.FINAL, "The root is in force.", True)
        return of_intent(intent, at)
    if intent is None:
        return Truth(State.RECORDED, why_funding_waits(distribution) or NOTHING_SENT, False)
    told = of_intent(intent, at)
    # A root that waits for the contract's delay is not in force, however deep its block is.
    reached = State.SUBMITTED if told.state == State.FINAL else told.state
    return Truth(reached, told.words, False, told.confirmations, told.block_number, told.tx_hash)


def of_claim(claim: Claim, at: ChainHead | None = None) -> Truth:
    if claim.state == Claim.State.PAID:
        number = _blocks_of([claim.tx_hash]).get(claim.tx_hash)
        if number is not None:
            return of_block(number, at or head(), tx_hash=claim.tx_hash)
        return Truth(State.FINAL, "Paid on the chain.", True, tx_hash=claim.tx_hash)
    if claim.state == Claim.State.VANISHED:
        return Truth(State.FAILED, "The chain took this payment back; claim it again.", True)
    intent = Intent.objects.filter(pk=claim.intent_id).first() if claim.intent_id else None
    told = of_intent(intent, at) if intent else NOT_SENT
    if claim.state == Claim.State.FAILED:
        words = claim.failure_reason or told.words
        return Truth(State.FAILED, words, True, told.confirmations, told.block_number, told.tx_hash)
    if told.settled:
        # The transaction is through; the ledger books it from the contract's event.
        return Truth(
            State.SUBMITTED,
            f"{told.words} The ledger books it in a moment.",
            False,
            told.confirmations,
            told.block_number,
            told.tx_hash,
        )
    return told


def of_withdrawal(withdrawal: Withdrawal, at: ChainHead | None = None) -> Truth:
    """As true as its batch's transaction; paid or given back once the ledger has booked that."""
    intent = (
        Intent.objects.filter(pk=withdrawal.batch.intent_id).first() if withdrawal.batch else None
    )
    told = of_intent(intent, at) if intent else NOT_SENT
    place = (told.confirmations, told.block_number, told.tx_hash)
    if withdrawal.state in Withdrawal.RETURNED:
        words = f"{withdrawal.failure_reason} The money is back with you."
        return Truth(State.FAILED, words.strip(), True, *place)
    if withdrawal.state == Withdrawal.State.PAID:
        return Truth(State.FINAL, "Paid on the chain.", True, *place)
    if told.state == State.FAILED:
        words = f"{told.words} The money comes back once that is final."
        return Truth(State.SUBMITTED, words, False, *place)
    if told.settled:
        words = f"{told.words} The ledger books it in a moment."
        return Truth(State.SUBMITTED, words, False, *place)
    return told


def of_entry(entry: Entry) -> Truth:
    return of_entries([entry])[entry.pk]


def of_entries(entries: Iterable[Entry]) -> dict[UUID, Truth]:
    """How far each entry is, by its id; six statements whatever their number.

    An entry that an event caused is as true as the event's block; the one of a distribution or a
    withdrawal as its transaction; any other is of the ledger alone.
    """
    rows = {entry.pk: entry for entry in entries}
    caused = {
        pk: found[1]
        for pk, entry in rows.items()
        if (found := OF_AN_EVENT.fullmatch(entry.idempotency_key))
    }
    publications = {
        pk: row.cause_id for pk, row in rows.items() if row.kind == Entry.Kind.DISTRIBUTION
    }
    distributions = Distribution.every.in_bulk(set(publications.values()) - {None})
    published = {
        pk: distributions[cause] for pk, cause in publications.items() if cause in distributions
    }
    blocks = _blocks_of(caused.values())
    leaving = [pk for pk, row in rows.items() if row.kind in OF_A_WITHDRAWAL]
    at = head() if caused or published or leaving else None
    told = _of_withdrawals(leaving, at) if leaving else {}
    return {pk: told.get(pk) or _of_entry(pk, caused, blocks, published, at) for pk in rows}


def _of_withdrawals(entries: Sequence[UUID], at: ChainHead | None) -> dict[UUID, Truth]:
    """Entries of what goes to a wallet are as true as the transaction of its batch."""
    rows = Withdrawal.objects.filter(Q(entry__in=entries) | Q(closed_by__in=entries))
    found = list(rows.select_related("batch"))
    intents = Intent.objects.in_bulk([row.batch.intent_id for row in found if row.batch])
    told: dict[UUID, Truth] = {}
    for row in found:
        intent = intents.get(row.batch.intent_id) if row.batch else None
        one = of_intent(intent, at) if intent else NOT_SENT
        told[row.entry_id] = one
        if row.closed_by_id is not None:
            told[row.closed_by_id] = one
    return told


def _of_entry(
    pk: UUID,
    caused: dict[UUID, str],
    blocks: dict[str, int],
    published: dict[UUID, Distribution],
    at: ChainHead | None,
) -> Truth:
    if (tx_hash := caused.get(pk)) is not None:
        if tx_hash in blocks:
            return of_block(blocks[tx_hash], at, tx_hash=tx_hash)
        words = "Recorded from an event of the chain whose block is not in our mirror."
        return Truth(State.RECORDED, words, True, tx_hash=tx_hash)
    if (distribution := published.get(pk)) is not None:
        return of_distribution(distribution, at)
    return Truth(State.RECORDED, LEDGER_ALONE, True)


def _blocks_of(tx_hashes: Iterable[str]) -> dict[str, int]:
    wanted = {tx_hash for tx_hash in tx_hashes if tx_hash}
    if not wanted:
        return {}
    logs = ChainLog.objects.filter(tx_hash__in=wanted, block__chain_id=settings.CHAIN_ID)
    return dict(logs.values_list("tx_hash", "block__number"))


def block_of(text: str) -> ChainBlock | None:
    """The block with that number or hash, where the mirror keeps it."""
    blocks = ChainBlock.objects.filter(chain_id=settings.CHAIN_ID)
    if text.isascii() and text.isdigit():
        number = int(text)
        return blocks.filter(number=number).first() if number < 2**63 else None
    return blocks.filter(hash=text.lower()).first()
