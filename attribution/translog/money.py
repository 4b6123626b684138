"""The money of a receipt, computed again from its own integers: fee, split, credits, to the wei.

Amounts, scores and prices are decimal strings or JSON integers. Everything is divided by largest
remainder: floors first, then one by one to whom the floor took most from, ties by id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

PARTS = 10**9


class MoneyError(ValueError):
    """The receipt states another amount than the one that follows from its integers."""


def integer(value: Any) -> int:
    """Raises MoneyError for anything but a JSON integer or a string of decimal digits."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise MoneyError(f"not an integer: {str(value)[:40]!r}")
    digits = value.removeprefix("-") if isinstance(value, str) else "0"
    if not (digits.isascii() and digits.isdigit() and len(digits) < 1000):
        raise MoneyError(f"not an integer: {str(value)[:40]!r}")
    return int(value)


def apportion(amount: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Whole parts of `amount` by weights of 0 or more; nothing where the weights are nothing."""
    total = sum(weights.values())
    if total == 0:
        return {}
    parts = {name: amount * weight // total for name, weight in weights.items()}
    rest = amount - sum(parts.values())
    by_loss = sorted(weights, key=lambda name: (-(amount * weights[name] % total), name))
    for name in by_loss[:rest]:
        parts[name] += 1
    return parts


def compute_shares(scores: Mapping[str, int]) -> dict[str, int]:
    """Parts of 10**9 by positive score; shares of 0 are left out."""
    positive = {name: score for name, score in scores.items() if score > 0}
    return {name: part for name, part in apportion(PARTS, positive).items() if part}


def check_shares(receipt: Mapping[str, Any]) -> str | None:
    """That the shares follow from the scores, to the last part of 10**9."""
    if "shares" not in receipt or "influence" not in receipt:
        return None
    groups = {name: integer(value) for name, value in receipt["influence"]["groups"].items()}
    stated = {name: integer(value) for name, value in receipt["shares"].items()}
    # An answer without tokens has no influences to speak of.
    expected = {} if receipt.get("outcome") == "NO_ANSWER" else compute_shares(groups)
    if expected != {name: part for name, part in stated.items() if part}:
        raise MoneyError("the shares do not follow from the scores")
    return f"{len(stated)} shares of {len(groups)} scores"


def check_fee(receipt: Mapping[str, Any]) -> str | None:
    """That the fee is tokens times prices, and the contributors' part follows from the split."""
    if "price" not in receipt:
        return None
    price = receipt["price"]
    fee = integer(price["fee"])
    expected = integer(price["input"]) * integer(price["prompt_tokens"])
    expected += integer(price["output"]) * integer(price["completion_tokens"])
    if fee != expected:
        raise MoneyError(f"{expected} wei follow from tokens and prices, the fee is {fee}")
    amount = integer(receipt["contributors_amount"])
    basis_points = {kind: integer(part) for kind, part in receipt["split"]["parts"].items()}
    # Without a settlement nothing was taken, and nothing is given.
    is_settled = bool(receipt["credits"]) and receipt.get("settlement") is not None
    part = apportion(fee, basis_points).get("contributors", 0) if is_settled else 0
    if amount != part:
        raise MoneyError(f"the contributors' part is {part} wei, the receipt says {amount}")
    return f"{fee} wei, of which {amount} for contributors"


def check_credits(receipt: Mapping[str, Any]) -> str | None:
    """That each credit is the sum of its shares and gets its wei, and nobody else gets any."""
    if "credits" not in receipt:
        return None
    model = (receipt.get("model") or {}).get("id")
    expected = _expected_credits(receipt, model)
    stated: dict[str, int] = {}
    amounts: dict[str, int] = {}
    for credit in receipt["credits"]:
        key = _key(credit["kind"], credit["owner"], credit["datanet"], model)
        if key in stated:
            raise MoneyError(f"{key} is credited twice")
        stated[key] = integer(credit["share_ppb"])
        amounts[key] = integer(credit["amount"])
    if stated != expected:
        raise MoneyError("the credits do not follow from the shares")
    if amounts != apportion(integer(receipt["contributors_amount"]), stated):
        raise MoneyError("the amounts do not follow from the credits")
    return f"{len(amounts)} credits, {sum(amounts.values())} wei"


def _expected_credits(receipt: Mapping[str, Any], model: str | None) -> dict[str, int]:
    """Parts of 10**9 by credit: contributors by their shares, else treasuries by records."""
    if model is None:
        return {}
    parts: dict[str, int] = defaultdict(int)
    for name, part in receipt["shares"].items():
        contributor, datanet, _ = name.split("|")
        parts[_key("contributor", contributor, datanet, model)] += integer(part)
    if parts:
        return {key: part for key, part in parts.items() if part}
    records: dict[str, int] = defaultdict(int)
    for name, count in receipt["influence"]["records"].items():
        _, datanet, _ = name.split("|")
        records[datanet] += integer(count)
    # Divided by Datanet, so that ties go by its id alone, as shares of groups go by theirs.
    return {
        _key("treasury", datanet, datanet, model): part
        for datanet, part in apportion(PARTS, records).items()
        if part
    }


def _key(kind: str, owner: str, datanet: str, model: str | None) -> str:
    return f"{kind}:{owner}:{datanet}:{model}"
