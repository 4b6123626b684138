"""An exact audit of a receipt, computed again from its own integers and the receipt's.

The audit states what a replay of the training gave each group (`influence`), the shares that come
of it and how far they are from those of the receipt. That the replay gave these integers nobody
can see from a file; everything that is said of them follows from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from attribution.translog.money import (
    MONEY,
    PARTS,
    MoneyError,
    compute_shares,
    difference,
    integer,
    readings,
)

SCHEMA = "openledger-exact-audit/1"
# Of several models that answered as one: nobody shall read it as the audit of one model.
MERGED_SCHEMA = "openledger-exact-audit-merge/1"
# Of a pair any correlation is one.
FEWEST = 3
OF_ONE_MODEL = frozenset({
    "steps", "records", "records_left_out", "influence", "was_paid", "index_shares",
    "exact_shares", "difference", "correlation_ppm", "largest_difference_ppb", "elsewhere_ppb",
})  # fmt: skip


def is_audit(statement: Mapping[str, Any]) -> bool:
    """Whether a statement of the log is an exact audit, of whatever version."""
    return str(statement.get("schema")).startswith("openledger-exact-audit")


def check_audited(statement: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    """That all that ``statement`` says of the receipt ``first`` follows, for each model that
    answered. Raises MoneyError."""
    if statement["schema"] != (MERGED_SCHEMA if "merge" in statement else SCHEMA):
        raise MoneyError("its schema is not the one of an exact audit")
    if "merge" in statement and {*statement} & OF_ONE_MODEL:
        raise MoneyError("it says of all models what is each one's own")
    if statement["moves_money"] is not False or {*statement} & MONEY:
        raise MoneyError("an exact audit moves no money")
    if ("merge" in statement) != ("merge" in first):
        raise MoneyError("the receipt is of other models")
    told, before = readings(statement), readings(first)
    named = [[(one["model"], one.get("share_ppb")) for one in row] for row in (told, before)]
    if named[0] != named[1]:
        raise MoneyError("the receipt is of other models")
    return "; ".join(_check_model(*pair) for pair in zip(told, before, strict=True))


def _check_model(one: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    if "not_replayed" in one:
        if {*one} & OF_ONE_MODEL:
            raise MoneyError("it was not replayed, and yet there are figures")
        return "not replayed"
    stated = _integers(before["influence"]["groups"])
    exact = _integers(one["influence"])
    if not {*stated} <= {*exact}:
        raise MoneyError("a group of the receipt is missing")
    index_shares = _shares(before["shares"]) or compute_shares(stated)
    exact_shares = compute_shares(exact)
    moved = difference(index_shares, exact_shares)
    names = sorted(exact)
    rows = [[row.get(name, 0) for name in names] for row in (stated, exact)]
    told = dict(one)
    for member in ("index_shares", "exact_shares"):
        told[member] = _shares(one[member])
    expected = {
        "was_paid": bool(before["shares"]),
        "index_shares": index_shares,
        "exact_shares": exact_shares,
        "difference": moved,
        "largest_difference_ppb": max((abs(part) for part in moved.values()), default=0),
        "elsewhere_ppb": sum(part for part in moved.values() if part > 0),
        "correlation_ppm": correlation_ppm(*rows),
    }
    for member, value in expected.items():
        if told[member] != value:
            raise MoneyError(f"{member} does not follow from the influences")
    return f"{expected['elsewhere_ppb']} of {PARTS} parts would go elsewhere; no money moves"


def correlation_ppm(one: Sequence[int], other: Sequence[int]) -> int | None:
    """Pearson's correlation in parts of a million; None where it says nothing."""
    count = len(one)
    if count < FEWEST:
        return None
    centred = [[count * value - sum(row) for value in row] for row in (one, other)]
    # Whole numbers up to here, so that large influences lose nothing.
    product = sum(left * right for left, right in zip(*centred, strict=True))
    squares = math.prod(sum(value * value for value in row) for row in centred)
    return round(1_000_000 * product / math.isqrt(squares)) if squares else None


def _shares(values: Mapping[str, Any]) -> dict[str, int]:
    """A share of nothing may be told or not."""
    return {name: part for name, part in _integers(values).items() if part}


def _integers(values: Mapping[str, Any]) -> dict[str, int]:
    return {name: integer(value) for name, value in values.items()}
