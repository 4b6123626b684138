"""What attackers gain: `python -m bench.attack --medquad FOLDER`.

Gain is what an attacker earns over all its accounts, after copies were taken out and the model was
trained and indexed again, over what it earns honestly with the same seed. The market is Task A of
`bench/attribution` with whole texts: eight contributors, one of them the attacker; 44 held-out
questions are asked. Before it, how well copies are told from honest records that look alike.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from bench import report
from bench.attack import attacks, copies
from bench.attack.market import Entry, Market
from bench.attribution import task
from modelfactory.training.prompts import load_tokenizer

ATTACKER, VICTIM, THIEF = "ghr information", "medlineplus", "thief"
# What a caller gets back of a fee: as contributor, and where it owns model and stakes as well.
CONTRIBUTORS, ALL_BUT_PLATFORM = 0.5, 0.9
# How long a step Task A's training takes of what the curvature asks for (`--second-order` there).
LENGTH = 0.046
OUTLIERS, SHADOWED = 0.25, 0.5


def main() -> int:
    parser = report.parser(__doc__)
    parser.add_argument("--medquad", type=Path, default=Path("../shared/data/medquad"))
    parser.add_argument("--texts", type=int, default=14_176, help="honest texts to look through")
    parser.add_argument("--copies", type=int, default=200, help="of each kind of edit")
    parser.add_argument("--records", type=int, default=task.RECORDS, help="of each contributor")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--second-order", action="store_true", help="copies not looked for, by pairs of records"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = report.Report("attack", options)
    if options.second_order:
        _tell_pairs(result, options)
        return result.finish()
    _tell_copies(result, options)
    _tell_gains(result, options)
    return result.finish()


def _tell_copies(result: report.Report, options: argparse.Namespace) -> None:
    texts = list(task.read(options.medquad))
    random.Random(0).shuffle(texts)
    quality = copies.judge(texts[: options.texts], options.copies, seed=1)
    for kind, recall in quality.recall.items():
        result.add(f"recall: {kind}", recall, "")
    result.add("recall of near-duplicates", statistics.mean(quality.recall.values()), "",
               at_least=0.95)  # fmt: skip
    result.add("precision of near-duplicates", quality.precision, "", at_least=0.99)
    result.add("honest records wrongly merged", quality.merged, "", at_most=0.01,
               note=f"{quality.repeats} more repeat an earlier one's question")  # fmt: skip
    code = copies.of_code()
    quality = copies.judge(code, min(options.copies, len(code) // 4), seed=1)
    result.add(f"the same of {len(code)} questions about code: recall",
               statistics.mean(quality.recall.values()), "")  # fmt: skip
    result.add("precision", quality.precision, "", at_least=0.99)
    result.add("wrongly merged", quality.merged, "", at_most=0.01)


def _tell_gains(result: report.Report, options: argparse.Namespace) -> None:
    made = task.load(options.medquad)
    honest = _honest(made, options.records)
    tokenizer = load_tokenizer(task.STARTER)
    gains: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        market = Market(tokenizer, made.queries, seed)
        for name, gain in _gains(market, honest, made, seed).items():
            gains.setdefault(name, []).append(gain)
            sys.stderr.write(f"seed {seed}  {name}: {gain:.3f}\n")
    for name, bar in BARS.items():
        found = gains[name]
        low, high = _interval(found)
        result.add(
            name,
            statistics.mean(found),
            "x",
            at_most=bar,
            at_least=0.95 if name == KEPT else None,
            note=f"{len(found)} seeds, 95 %: {low:.3f} to {high:.3f}",
        )


def _tell_pairs(result: report.Report, options: argparse.Namespace) -> None:
    """Whether a second-order term of groups keeps copies from paying, where none are looked for."""
    made = task.load(options.medquad)
    honest = _honest(made, options.records)
    tokenizer = load_tokenizer(task.STARTER)
    held_out = slice(task.DEVELOPMENT, None)
    gains: dict[str, list[float]] = {"first order": [], "second order": []}
    for seed in range(options.seeds):
        market = Market(tokenizer, made.queries, seed)
        copies_too = attacks.own_copies(honest, ATTACKER, 4, 4, random.Random(seed))
        before = market.earned_by_pairs(honest, LENGTH)
        after = market.earned_by_pairs(copies_too, LENGTH)
        for name, one, other in zip(gains, before, after, strict=True):
            accounts = [a for a in other.accounts if a.split("#")[0] == ATTACKER]
            gains[name].append(other.of(accounts, held_out) / one.of([ATTACKER], held_out))
            sys.stderr.write(f"seed {seed}  {name}: {gains[name][-1]:.3f}\n")
    for name, found in gains.items():
        low, high = _interval(found)
        result.add(f"own records 4 times, copies not looked for: {name}", statistics.mean(found),
                   "x", note=f"{len(found)} seeds, 95 %: {low:.3f} to {high:.3f}")  # fmt: skip


KEPT = "the victim's pay beside the thief / without"
BARS: dict[str, float | None] = {
    "own records 2 times, 1 account": 1.0,
    "own records 16 times, 1 account": 1.0,
    "own records 16 times, 16 accounts": 1.0,
    "own records 4 times, 4 accounts (all kinds of edits)": 1.1,
    "thief's pay / victim's": 0.05,
    KEPT: None,
    "a quarter outliers": 1.25,
    "half chosen by a shadow model": 1.5,
    "back of the fee: asks for own records": 1.0,
    "back of the fee: the same, owns model and stakes": 1.0,
    "own records 4 times, copies not looked for": None,
}


def _gains(market: Market, honest: list[Entry], made: task.Task, seed: int) -> dict[str, float]:
    held_out = slice(task.DEVELOPMENT, None)
    base = market.earned(honest)
    mine = base.of([ATTACKER], held_out)

    def gain(entries: list[Entry], *, sees_copies: bool = True) -> float:
        earned = market.earned(entries, sees_copies=sees_copies)
        accounts = [name for name in earned.accounts if name.split("#")[0] == ATTACKER]
        return earned.of(accounts, held_out) / mine

    def drawn(make: Callable[[random.Random], list[Entry]]) -> list[Entry]:
        return make(random.Random(seed))

    theft = market.earned(drawn(lambda draw: attacks.stolen(honest, VICTIM, THIEF, draw)))
    theirs = base.of([VICTIM], held_out)
    own = [place for place, query in enumerate(made.queries) if query.group_id == ATTACKER]
    triggered = max(base.of([ATTACKER], slice(place, place + 1)) for place in own)
    return {
        "own records 2 times, 1 account": gain(
            drawn(lambda draw: attacks.own_copies(honest, ATTACKER, 2, 1, draw, attacks.LOOKS))
        ),
        "own records 16 times, 1 account": gain(
            drawn(lambda draw: attacks.own_copies(honest, ATTACKER, 16, 1, draw, attacks.LOOKS))
        ),
        "own records 16 times, 16 accounts": gain(
            drawn(lambda draw: attacks.own_copies(honest, ATTACKER, 16, 16, draw, attacks.LOOKS))
        ),
        "own records 4 times, 4 accounts (all kinds of edits)": gain(
            drawn(lambda draw: attacks.own_copies(honest, ATTACKER, 4, 4, draw))
        ),
        "thief's pay / victim's": theft.of([THIEF], held_out) / theirs,
        KEPT: theft.of([VICTIM], held_out) / theirs,
        "a quarter outliers": gain(
            drawn(lambda draw: attacks.outliers(honest, ATTACKER, OUTLIERS, draw))
        ),
        "half chosen by a shadow model": gain(
            drawn(
                lambda draw: attacks.shadowed(
                    honest,
                    ATTACKER,
                    SHADOWED,
                    made.rest,
                    Market(market.tokenizer, [], seed + 100),
                    made.queries[: task.DEVELOPMENT],
                    draw,
                )
            )
        ),
        "back of the fee: asks for own records": CONTRIBUTORS * triggered,
        "back of the fee: the same, owns model and stakes": (
            ALL_BUT_PLATFORM - CONTRIBUTORS + CONTRIBUTORS * triggered
        ),
        "own records 4 times, copies not looked for": gain(
            drawn(lambda draw: attacks.own_copies(honest, ATTACKER, 4, 4, draw)), sees_copies=False
        ),
    }


def _honest(made: task.Task, records: int) -> list[Entry]:
    """The contributors' records in turn, since commits come in no order of accounts."""
    by_group: dict[str, list[Entry]] = {}
    for record in made.records:
        text = made.texts[record.content_hash]
        entry = Entry(record.group_id, text.question, text.answer)
        by_group.setdefault(record.group_id, []).append(entry)
    return [one for turn in zip(*(by_group[g][:records] for g in sorted(by_group)), strict=True)
            for one in turn]  # fmt: skip


def _interval(values: list[float]) -> tuple[float, float]:
    """Of the mean, by Student's t with so few seeds; all of the line for one seed."""
    if len(values) < 2:
        return float("-inf"), float("inf")
    quantile = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}.get(len(values), 2.571)
    half = quantile * statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values) - half, statistics.mean(values) + half


if __name__ == "__main__":
    raise SystemExit(main())
