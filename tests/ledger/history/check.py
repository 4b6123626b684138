"""Checks a recorded history against the entries that the ledger kept.

What must hold, whatever the order in which the database did things:

1. What was acknowledged is there, under one entry, and everybody who asked was told the same one.
2. No entry is there that nobody was told of, and none stands for two requests.
3. A refusal for want of money was possible: at some moment between its beginning and its end the
   account could have held too little. The least that it can have held is what was surely there
   (acknowledged before the refusal began) less what may have gone by its end.
4. Money that was taken was possible: the most that the account can have held was enough.

3 and 4 follow real time without searching for an order of all requests: they never blame a correct
ledger, and they find balances that were lost or doubled on the way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.ledger.history.record import DONE, REFUSED, Request

Account = tuple[str, str]
NEVER = 2**63


@dataclass(frozen=True)
class Kept:
    """An entry as the database has it, and what it moved on each account (kind, owner)."""

    id: str
    moves: Mapping[Account, int]


@dataclass(frozen=True)
class _Move:
    """A movement, and the span in which it took effect: first asked for, first acknowledged."""

    amount: int
    earliest: int
    latest: int
    label: str


def violations(history: Sequence[Request], entries: Sequence[Kept]) -> list[str]:
    """Each sentence is one thing that must not be."""
    told: dict[str, set[str]] = defaultdict(set)
    for request in history:
        if request.outcome == DONE and request.entry:
            told[request.label].add(request.entry)
    return [
        *_lost_or_doubled(told, {entry.id for entry in entries}),
        *_impossible(history, _moves(history, entries, told)),
    ]


def _lost_or_doubled(told: Mapping[str, set[str]], kept: set[str]) -> list[str]:
    found = []
    labels: dict[str, list[str]] = defaultdict(list)
    for label, ids in told.items():
        if len(ids) > 1:
            found.append(f"{label} was acknowledged as {len(ids)} entries")
        for entry in ids:
            labels[entry].append(label)
            if entry not in kept:
                found.append(f"{label} was acknowledged and is lost")
    found += [f"{entry} stands for {names}" for entry, names in labels.items() if len(names) > 1]
    return found + [f"{entry} was written and nobody told" for entry in kept - set(labels)]


def _impossible(history: Sequence[Request], moves: Mapping[Account, Sequence[_Move]]) -> list[str]:
    found, taken = [], set()
    for request in history:
        if request.takes is None:
            continue
        kind, owner, needed = request.takes
        account = moves.get((kind, owner), ())
        if request.code == "insufficient_funds":
            least = _least(account, request)
            if least >= needed:
                found.append(f"{request.label} was refused {needed}; at least {least} was there")
        elif request.outcome == DONE and request.label not in taken:
            # Acknowledged again, it takes nothing more.
            taken.add(request.label)
            most = _most(account, request)
            if most < needed:
                found.append(f"{request.label} took {needed}; at most {most} was there")
    return found


def _least(account: Sequence[_Move], request: Request) -> int:
    surely = sum(m.amount for m in account if m.amount > 0 and m.latest < request.began)
    return surely + sum(m.amount for m in account if m.amount < 0 and m.earliest < request.ended)


def _most(account: Sequence[_Move], request: Request) -> int:
    perhaps = sum(m.amount for m in account if m.amount > 0 and m.earliest < request.ended)
    gone = (m for m in account if m.amount < 0 and m.latest < request.began)
    return perhaps + sum(m.amount for m in gone if m.label != request.label)


def _moves(
    history: Sequence[Request], entries: Sequence[Kept], told: Mapping[str, set[str]]
) -> dict[Account, list[_Move]]:
    earliest: dict[str, int] = {}
    latest: dict[str, int] = {}
    for request in history:
        if request.outcome == REFUSED:
            continue
        earliest[request.label] = min(request.began, earliest.get(request.label, NEVER))
        if request.outcome == DONE:
            latest[request.label] = min(request.ended, latest.get(request.label, NEVER))
    label_of = {entry: label for label, ids in told.items() for entry in ids}
    found: dict[Account, list[_Move]] = defaultdict(list)
    for entry in entries:
        label = label_of.get(entry.id, "")
        span = (earliest.get(label, 0), latest.get(label, NEVER))
        for account, amount in entry.moves.items():
            found[account].append(_Move(amount, *span, label))
    return found
