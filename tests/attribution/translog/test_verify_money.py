"""Fee, split and credits of a receipt are computed again to the last wei."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.translog.money import (
    MoneyError,
    apportion,
    check_credits,
    check_fee,
    check_owner_parts,
    check_shares,
    integer,
)

ANNA, BEN = "aaaa", "bbbb"
NET, OTHER = "d1", "d2"

RECEIPT: dict[str, Any] = {
    "model": {"id": "m1"},
    "outcome": "CREDITED",
    "influence": {
        "groups": {f"{ANNA}|{NET}|v1": "10", f"{ANNA}|{NET}|v2": "5", f"{BEN}|{OTHER}|v3": "-7"},
        "records": {f"{ANNA}|{NET}|v1": 2, f"{ANNA}|{NET}|v2": 1, f"{BEN}|{OTHER}|v3": 4},
    },
    "shares": {f"{ANNA}|{NET}|v1": 666_666_667, f"{ANNA}|{NET}|v2": 333_333_333},
    "credits": [
        {"kind": "contributor", "owner": ANNA, "datanet": NET, "share_ppb": 10**9, "amount": "51"}
    ],
    "price": {
        "input": "1",
        "output": "3",
        "prompt_tokens": 11,
        "completion_tokens": 30,
        "fee": "101",
    },
    "split": {
        "version": 1,
        "parts": {
            "platform": 1000,
            "model_owner": 2000,
            "stakers": 2000,
            "contributors": 5000,
        },
    },
    "contributors_amount": "51",
    "settlement": "e1",
}

TREASURY: dict[str, Any] = {
    **RECEIPT,
    "outcome": "NO_POSITIVE_INFLUENCE",
    "influence": {
        "groups": dict.fromkeys(RECEIPT["influence"]["groups"], "-1"),
        "records": RECEIPT["influence"]["records"],
    },
    "shares": {},
    "credits": [
        {
            "kind": "treasury",
            "owner": NET,
            "datanet": NET,
            "share_ppb": 428_571_429,
            "amount": "22",
        },
        {
            "kind": "treasury",
            "owner": OTHER,
            "datanet": OTHER,
            "share_ppb": 571_428_571,
            "amount": "29",
        },
    ],
}

BASE: dict[str, Any] = {
    **RECEIPT,
    "model": None,
    "outcome": "NO_CONTRIBUTORS",
    "influence": {"groups": {}, "records": {}},
    "shares": {},
    "credits": [],
    "contributors_amount": "0",
}


TERMS: dict[str, Any] = {
    "split": dict(RECEIPT["split"]),
    "model_owner": "o1",
    "model_stakers_bps": 1_000,
    "royalties": {
        "whole": "100",
        "royalties": [
            {"owner": "o2", "source": "m2", "weight": "9"},
            {"owner": "o3", "source": "m3", "weight": "1"},
        ],
    },
    "datanets": {
        NET: {"whole": "10", "royalties": [{"owner": OTHER, "source": OTHER, "weight": "1"}]}
    },
}
# The owner's part is 20 of 101 wei: 1.8 to m2, 0.2 to m3, a tenth of the rest to the stakers.
PASSED_ON: dict[str, Any] = {
    **RECEIPT,
    "terms": TERMS,
    "owner_parts": [
        {"kind": "owner", "owner": "o1", "model": "m1", "amount": "16"},
        {"kind": "stakers", "owner": None, "model": "m1", "amount": "2"},
        {"kind": "royalty", "owner": "o2", "model": "m2", "amount": "2"},
    ],
    "credits": [
        {**RECEIPT["credits"][0], "kept": "46", "royalties": [{"datanet": OTHER, "amount": "5"}]}
    ],
}


@pytest.mark.parametrize("receipt", [RECEIPT, TREASURY, BASE, PASSED_ON])
def test_a_true_receipt_adds_up(receipt: dict[str, Any]) -> None:
    assert check_shares(receipt)
    assert check_credits(receipt)
    assert check_fee(receipt)


def test_the_owners_part_adds_up_where_a_receipt_states_it() -> None:
    assert check_owner_parts(RECEIPT) is None
    assert check_owner_parts(PASSED_ON) == "3 parts, 20 wei"


def changed(receipt: dict[str, Any], *path: Any, to: Any) -> dict[str, Any]:
    found = copy.deepcopy(receipt)
    place: Any = found
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return found


@pytest.mark.parametrize(
    ("check", "receipt"),
    [
        (check_shares, changed(RECEIPT, "outcome", to="NO_ANSWER")),
        (check_credits, changed(RECEIPT, "credits", 0, "owner", to=BEN)),
        (check_credits, changed(RECEIPT, "credits", 0, "share_ppb", to=10**9 - 1)),
        (check_credits, changed(RECEIPT, "credits", 0, "amount", to="50")),
        (check_credits, changed(RECEIPT, "credits", to=RECEIPT["credits"] * 2)),
        (check_credits, changed(RECEIPT, "credits", to=[])),
        (check_credits, changed(RECEIPT, "model", to=None)),
        (check_credits, changed(TREASURY, "credits", 0, "amount", to="21")),
        (check_credits, changed(TREASURY, "influence", "records", f"{BEN}|{OTHER}|v3", to=5)),
        (check_fee, changed(RECEIPT, "price", "fee", to="102")),
        (check_fee, changed(RECEIPT, "contributors_amount", to="50")),
        (check_fee, changed(RECEIPT, "split", "parts", "contributors", to=4000)),
        (check_fee, changed(RECEIPT, "price", "input", to="1.0")),
        (check_fee, changed(BASE, "contributors_amount", to="1")),
        (check_fee, changed(RECEIPT, "settlement", to=None)),
        (check_credits, changed(PASSED_ON, "credits", 0, "kept", to="45")),
        (check_credits, changed(PASSED_ON, "credits", 0, "royalties", 0, "amount", to="6")),
        (check_credits, changed(PASSED_ON, "credits", 0, "royalties", 0, "datanet", to="d9")),
        (check_credits, changed(PASSED_ON, "credits", 0, "royalties", to=[])),
        (check_credits, changed(PASSED_ON, "terms", "datanets", to={})),
        (check_owner_parts, changed(PASSED_ON, "owner_parts", 0, "amount", to="17")),
        (check_owner_parts, changed(PASSED_ON, "owner_parts", 0, "owner", to="o2")),
        (check_owner_parts, changed(PASSED_ON, "owner_parts", 2, "owner", to="o3")),
        (check_owner_parts, changed(PASSED_ON, "owner_parts", 2, "model", to="m3")),
        (check_owner_parts, changed(PASSED_ON, "owner_parts", to=PASSED_ON["owner_parts"] * 2)),
        (check_owner_parts, changed(PASSED_ON, "owner_parts", to=[])),
        (check_owner_parts, changed(PASSED_ON, "terms", "split", "version", to=2)),
        (check_owner_parts, changed(PASSED_ON, "terms", "royalties", "whole", to="9")),
        (
            check_owner_parts,
            changed(PASSED_ON, "terms", "royalties", "royalties", 0, "source", to="m1"),
        ),
        (
            check_owner_parts,
            changed(PASSED_ON, "terms", "datanets", NET, "royalties", 0, "source", to=NET),
        ),
        (
            check_owner_parts,
            changed(PASSED_ON, "terms", "royalties", "royalties", 0, "weight", to="-1"),
        ),
    ],
)
def test_a_changed_amount_is_seen(check: Any, receipt: dict[str, Any]) -> None:
    with pytest.raises(MoneyError):
        check(receipt)


@pytest.mark.parametrize("value", [True, 1.0, None, "", "-", "1e3", " 1", "\u0661", "9" * 1000])
def test_only_whole_numbers_are_amounts(value: Any) -> None:
    with pytest.raises(MoneyError):
        integer(value)


@given(
    st.integers(0, 10**30), st.dictionaries(st.text(max_size=3), st.integers(0, 10**12), min_size=1)
)
def test_parts_add_up_and_none_is_off_by_a_wei(amount: int, weights: dict[str, int]) -> None:
    parts = apportion(amount, weights)
    total = sum(weights.values())
    assert sum(parts.values()) == (amount if total else 0)
    assert all(abs(part * total - amount * weights[name]) < total for name, part in parts.items())
