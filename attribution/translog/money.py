"""The money of a receipt, computed again from its own integers: fee, split, credits, to the wei.

Amounts, scores and prices are decimal strings or JSON integers. Everything is divided by largest
remainder: floors first, then one by one to whom the floor took most from, ties by id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PARTS = 10**9
BEST_FIRST = (
    "CREDITED",
    "NO_CLEAR_INFLUENCE",
    "NO_POSITIVE_INFLUENCE",
    "NO_INDEX",
    "NO_ANSWER",
    "NO_CONTRIBUTORS",
)
BASIS_POINTS = 10_000
KEPT, OWNER, STAKERS = "kept", "owner", "stakers"


# What a receipt says of money; what is said of one later has none of it.
MONEY = frozenset({"price", "credits", "settlement", "contributors_amount", "owner_parts"})


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


def difference(earlier: Mapping[str, int], later: Mapping[str, int]) -> dict[str, int]:
    """Parts of 10**9 by which each group's share is larger than it was; equal ones are left out."""
    moved = {name: later.get(name, 0) - earlier.get(name, 0) for name in sorted({*earlier, *later})}
    return {name: parts for name, parts in moved.items() if parts}


def readings(receipt: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """What has influences and shares: the receipt, or each of the models that answered as one."""
    merge = receipt.get("merge")
    return [receipt] if merge is None else merge["parents"]


def check_merge(receipt: Mapping[str, Any]) -> str | None:
    """That each of several models is paid for by the size of its weight, as the terms say too."""
    merge, terms = receipt.get("merge"), receipt.get("terms") or {}
    if merge is None:
        if terms.get("parents"):
            raise MoneyError("the terms are of several models, and the receipt names none")
        return None
    stated = {one["model"]["id"]: integer(one["share_ppb"]) for one in merge["parents"]}
    weights = {one["model"]["id"]: abs(integer(one["weight_ppm"])) for one in merge["parents"]}
    if receipt.get("model") is not None or len(stated) != len(merge["parents"]):
        raise MoneyError("the receipt names a model twice")
    if stated != apportion(PARTS, weights):
        raise MoneyError("the models' shares do not follow from their weights")
    # The best of what each would come to alone.
    outcomes = [BEST_FIRST.index(one["outcome"]) for one in merge["parents"]]
    if receipt["outcome"] != BEST_FIRST[min(outcomes)]:
        raise MoneyError("the outcome does not follow from those of the models")
    if terms:
        parents = terms.get("parents") or []
        agreed = {one["model"]: integer(one["share_ppb"]) for one in parents}
        if agreed != stated or len(agreed) != len(parents):
            raise MoneyError("the terms name other models or shares than the receipt")
    return f"{len(stated)} models share by their weights"


def check_shares(receipt: Mapping[str, Any]) -> str | None:
    """That the shares follow from the scores, to the last part of 10**9."""
    return _joined(_check_shares(one) for one in readings(receipt))


def _joined(found: Iterable[str | None]) -> str | None:
    return "; ".join([one for one in found if one is not None]) or None


def _check_shares(receipt: Mapping[str, Any]) -> str | None:
    if "shares" not in receipt or "influence" not in receipt:
        return None
    groups = {name: integer(value) for name, value in receipt["influence"]["groups"].items()}
    stated = {name: integer(value) for name, value in receipt["shares"].items()}
    # An answer without tokens has no influences to speak of, and an unclear one pays nobody.
    unpaid = receipt.get("outcome") in ("NO_ANSWER", "NO_CLEAR_INFLUENCE")
    expected = {} if unpaid else compute_shares(groups)
    if expected != {name: part for name, part in stated.items() if part}:
        raise MoneyError("the shares do not follow from the scores")
    return f"{len(stated)} shares of {len(groups)} scores"


def check_outcome(receipt: Mapping[str, Any], first: Mapping[str, Any] | None) -> str | None:
    """That each stated outcome is the one that the influences give.

    `first` is the receipt that this one scores once more, which states how long the answer was.
    Two things no published number tells: whether an index could not be built, or was not needed
    any more; and, where no price is stated, whether there was an answer.
    """
    price = receipt.get("price") or (first or {}).get("price") or {}
    written = integer(price["completion_tokens"]) if "completion_tokens" in price else None
    return _joined(_check_outcome(one, written) for one in readings(receipt))


def _check_outcome(receipt: Mapping[str, Any], written: int | None) -> str | None:
    if "outcome" not in receipt or "influence" not in receipt:
        return None
    possible = _outcomes(receipt, written)
    if receipt["outcome"] not in possible:
        raise MoneyError(f"the outcome is {' or '.join(possible)}, not {receipt['outcome']}")
    return str(receipt["outcome"])


def _outcomes(receipt: Mapping[str, Any], written: int | None) -> Sequence[str]:
    if receipt.get("model") is None:
        return ["NO_CONTRIBUTORS"]
    if written == 0:
        return ["NO_ANSWER"]
    scores = [integer(value) for value in receipt["influence"]["groups"].values()]
    if any(score > 0 for score in scores):
        is_clear = (receipt.get("confidence") or {}).get("clear", True)
        return ["CREDITED" if is_clear else "NO_CLEAR_INFLUENCE"]
    possible = ["NO_POSITIVE_INFLUENCE"]
    if written is None and not scores:
        possible.append("NO_ANSWER")
    if not scores and receipt.get("index_root") is None:
        possible.append("NO_INDEX")
    return possible


def check_confidence(receipt: Mapping[str, Any]) -> str | None:
    """That influence is called clear just where a group is above the threshold, and paid then."""
    return _joined(_check_confidence(one) for one in readings(receipt))


def _check_confidence(receipt: Mapping[str, Any]) -> str | None:
    stated = receipt.get("confidence")
    if not stated:
        return None
    groups = {name: integer(value) for name, value in stated["groups"].items()}
    if set(groups) != set(receipt["influence"]["groups"]):
        raise MoneyError("confidence and influence name other groups")
    highest, threshold = max(groups.values()), integer(stated["threshold"])
    if stated["clear"] is not (highest > threshold):
        raise MoneyError("whether influence is clear does not follow from the threshold")
    # Where no influence is positive either, that is the reason that is told.
    scores = (integer(value) for value in receipt["influence"]["groups"].values())
    unclear = not stated["clear"] and any(score > 0 for score in scores)
    if (receipt["outcome"] == "NO_CLEAR_INFLUENCE") is not unclear:
        raise MoneyError("the outcome does not follow from the confidence")
    return f"{highest} thousandths of a deviation, {threshold} asked"


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


def check_owner_parts(receipt: Mapping[str, Any]) -> str | None:
    """That the owner's part is divided among owner, stakers and ancestors by the terms."""
    terms = receipt.get("terms")
    if "owner_parts" not in receipt or terms is None:
        return None
    _check_terms(receipt, terms)
    stated: dict[str, int] = {}
    for one in receipt["owner_parts"]:
        key = one["model"] if one["kind"] == "royalty" else one["kind"]
        key = f"{one['parent']}:{key}" if "parent" in one else key
        if key in stated:
            raise MoneyError(f"{key} is paid twice")
        stated[key] = integer(one["amount"])
    if stated != {key: part for key, part in _owner_parts(receipt, terms).items() if part}:
        raise MoneyError("the parts of owner, stakers and ancestors do not follow from the terms")
    _check_names(receipt, terms)
    return f"{len(stated)} parts, {sum(stated.values())} wei"


def _check_terms(receipt: Mapping[str, Any], terms: Mapping[str, Any]) -> None:
    """That the terms name the receipt's split, and pass on no more than a whole to no self."""
    if terms["split"] != receipt["split"]:
        raise MoneyError("the terms hold another split than the receipt")
    model = (receipt.get("model") or {}).get("id")
    several = [(one["model"], one["royalties"]) for one in terms.get("parents") or []]
    for payer, passing in [(model, terms["royalties"]), *several, *terms["datanets"].items()]:
        weights = _passing(passing)
        if payer in weights:
            raise MoneyError(f"{payer} passes a royalty on to itself")


def _passing(passing: Mapping[str, Any]) -> dict[str, int]:
    """Weights by ancestor, and what is kept under KEPT."""
    weights: dict[str, int] = {}
    for one in passing["royalties"]:
        if one["source"] in weights:
            raise MoneyError(f"{one['source']} stands twice among the royalties")
        weights[one["source"]] = integer(one["weight"])
    kept = integer(passing["whole"]) - sum(weights.values())
    if kept < 0 or any(weight <= 0 for weight in weights.values()):
        raise MoneyError("royalties exceed the part that they come from")
    return {KEPT: kept, **weights}


def _owner_parts(receipt: Mapping[str, Any], terms: Mapping[str, Any]) -> dict[str, int]:
    split = {kind: integer(part) for kind, part in receipt["split"]["parts"].items()}
    amount = apportion(integer(receipt["price"]["fee"]), split).get("model_owner", 0)
    parents = {one["model"]: one for one in terms.get("parents") or []}
    shares = {model: integer(one["share_ppb"]) for model, one in parents.items()}
    found = {} if terms["model_owner"] is None else _divided(amount, terms)
    for model, part in apportion(amount, shares).items():
        divided = _divided(part, _alone(parents[model]))
        found |= {f"{model}:{key}": value for key, value in divided.items()}
    return found


def _alone(parent: Mapping[str, Any]) -> Mapping[str, Any]:
    """The terms of one of several models, as if it had answered alone."""
    return {
        "model_owner": parent["owner"],
        "model_stakers_bps": parent["stakers_bps"],
        "royalties": parent["royalties"],
    }


def _divided(amount: int, terms: Mapping[str, Any]) -> dict[str, int]:
    passing = _passing(terms["royalties"])
    kept, points = passing.pop(KEPT), integer(terms["model_stakers_bps"])
    weights = {key: weight * BASIS_POINTS for key, weight in passing.items()}
    weights |= {OWNER: kept * (BASIS_POINTS - points), STAKERS: kept * points}
    return apportion(amount, weights)


def _check_names(receipt: Mapping[str, Any], terms: Mapping[str, Any]) -> None:
    """That each part is paid to whom the terms name."""
    parents = {one["model"]: _alone(one) for one in terms.get("parents") or []}
    for one in receipt["owner_parts"]:
        model = one["parent"] if parents else (receipt.get("model") or {}).get("id")
        its = parents[model] if parents else terms
        owners = {line["source"]: line["owner"] for line in its["royalties"]["royalties"]}
        named = {OWNER: (its["model_owner"], model), STAKERS: (None, model)}
        expected = named.get(one["kind"], (owners.get(one["model"]), one["model"]))
        if (one["owner"], one["model"]) != expected:
            raise MoneyError(f"{one['kind']} is paid to somebody whom the terms do not name")


def _check_royalties(receipt: Mapping[str, Any], credit: Mapping[str, Any]) -> None:
    """That what a credit keeps and passes on follows from the terms of its Datanet."""
    passings = (receipt.get("terms") or {}).get("datanets", {})
    passing = passings.get(credit["datanet"], {"whole": "1", "royalties": []})
    expected = apportion(integer(credit["amount"]), _passing(passing))
    stated = {KEPT: integer(credit["kept"])}
    for one in credit["royalties"]:
        stated[one["datanet"]] = integer(one["amount"])
    if len(stated) != 1 + len(credit["royalties"]):
        raise MoneyError("a Datanet stands twice among a credit's royalties")
    if {k: v for k, v in stated.items() if v} != {k: v for k, v in expected.items() if v}:
        raise MoneyError("the royalties of a credit do not follow from the terms")


def check_credits(receipt: Mapping[str, Any]) -> str | None:
    """That each credit is the sum of its shares and gets its wei, and nobody else gets any."""
    if "credits" not in receipt:
        return None
    model = (receipt.get("model") or {}).get("id")
    expected = _expected_credits(receipt, model)
    stated: dict[str, int] = {}
    amounts: dict[str, int] = {}
    for credit in receipt["credits"]:
        named = credit["model"] if "merge" in receipt else model
        key = _key(credit["kind"], credit["owner"], credit["datanet"], named)
        if key in stated:
            raise MoneyError(f"{key} is credited twice")
        stated[key] = integer(credit["share_ppb"])
        amounts[key] = integer(credit["amount"])
        # Receipts of before there were royalties say nothing of them.
        if "kept" in credit or "royalties" in credit:
            _check_royalties(receipt, credit)
    if stated != expected:
        raise MoneyError("the credits do not follow from the shares")
    if amounts != apportion(integer(receipt["contributors_amount"]), stated):
        raise MoneyError("the amounts do not follow from the credits")
    return f"{len(amounts)} credits, {sum(amounts.values())} wei"


def _expected_credits(receipt: Mapping[str, Any], model: str | None) -> dict[str, int]:
    """Parts of 10**9 by credit: those of influence, and the reward of what was retrieved."""
    if "merge" in receipt:
        return _merged_credits(receipt)
    credits = _influence_credits(receipt, model)
    retrieval = receipt.get("retrieval")
    if model is None or not retrieval or not integer(retrieval["reward_ppb"]):
        return credits
    part = integer(retrieval["reward_ppb"])
    if not 0 < part <= PARTS:
        raise MoneyError("the reward of retrieved records is no part of the whole")
    counts = {name: integer(count) for name, count in retrieval["groups"].items()}
    if any(count <= 0 for count in counts.values()):
        raise MoneyError("a group of retrieved records has none")
    weights: dict[str, int] = defaultdict(int)
    for key, share in credits.items():
        weights[key] += share * (PARTS - part)
    for name, share in apportion(PARTS, counts).items():
        contributor, datanet, _ = name.split("|")
        weights[_key("contributor", contributor, datanet, model)] += share * part
    return {key: share for key, share in apportion(PARTS, weights).items() if share}


def _merged_credits(receipt: Mapping[str, Any]) -> dict[str, int]:
    """What each of several models would credit alone, by its share."""
    weights: dict[str, int] = defaultdict(int)
    for one in readings(receipt):
        for key, share in _influence_credits(one, one["model"]["id"]).items():
            weights[key] += share * integer(one["share_ppb"])
    return {key: share for key, share in apportion(PARTS, weights).items() if share}


def _influence_credits(receipt: Mapping[str, Any], model: str | None) -> dict[str, int]:
    """Contributors by their shares, else treasuries by records."""
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
