"""The log's heads only go forward; the split is a whole in every block."""

from __future__ import annotations

import pytest

from ledger.chain.keccak import keccak256
from tests.chain_fixtures import ALICE, GUARDIAN, OPERATOR, STRANGER, Chain
from tests.ledger.contracts.tools import as_timelock


def word(text: str) -> bytes:
    return text.encode().ljust(32, b"\0")


def root(number: int) -> bytes:
    return keccak256(bytes([number]))


def test_each_anchor_names_the_root_before_it(chain: Chain) -> None:
    chain.send(OPERATOR, "LogAnchor", "anchor", 1, 10, root(1))
    receipt = chain.send(OPERATOR, "LogAnchor", "anchor", 3, 30, root(3))
    assert chain.events(receipt) == [
        ("Anchored", {"sequence": 3, "size": 30, "root": root(3), "previousRoot": root(1)})
    ]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((5, 60, root(2)), "SequenceNotAfter"),
        ((4, 60, root(2)), "SequenceNotAfter"),
        ((6, 50, root(2)), "SizeNotAfter"),
        ((6, 49, root(2)), "SizeNotAfter"),
        ((6, 60, b"\0" * 32), "EmptyRoot"),
    ],
)
def test_a_head_that_does_not_go_forward_is_refused(chain: Chain, arguments, why: str) -> None:
    chain.send(OPERATOR, "LogAnchor", "anchor", 5, 50, root(1))
    assert chain.reverts(OPERATOR, "LogAnchor", "anchor", *arguments).startswith(why)


@pytest.mark.parametrize("sender", [ALICE, GUARDIAN, STRANGER])
def test_only_the_writer_anchors_and_only_the_timelock_names_it(chain: Chain, sender: str) -> None:
    assert chain.reverts(sender, "LogAnchor", "anchor", 1, 1, root(1)).startswith("NotWriter")
    why = chain.reverts(sender, "LogAnchor", "setWriter", sender)
    assert why.startswith("OwnableUnauthorizedAccount")
    chain.send(as_timelock(chain), "LogAnchor", "setWriter", sender)
    chain.send(sender, "LogAnchor", "anchor", 1, 1, root(1))


def test_the_first_split_is_version_one(chain: Chain) -> None:
    assert chain.read("Parameters", "version") == 1
    assert chain.read("Parameters", "split") == (1000, 2000, 2000, 5000)
    assert chain.read("Parameters", "get", word("split.contributors")) == 5000


def test_a_split_is_set_as_a_whole_and_told_part_by_part(chain: Chain) -> None:
    receipt = chain.send(as_timelock(chain), "Parameters", "setSplit", (500, 2500, 2000, 5000))
    events = chain.events(receipt)
    assert [event["key"] for _, event in events] == [
        word(f"split.{part}") for part in ("platform", "model_owner", "stakers", "contributors")
    ]
    assert {event["version"] for _, event in events} == {2}
    assert [(event["previous"], event["value"]) for _, event in events][:2] == [
        (1000, 500),
        (2000, 2500),
    ]


@pytest.mark.parametrize("parts", [(1000, 2000, 2000, 4999), (10000, 1, 0, 0), (0, 0, 0, 0)])
def test_a_split_that_is_no_whole_is_refused(chain: Chain, parts) -> None:
    why = chain.reverts(chain.address("Timelock"), "Parameters", "setSplit", parts)
    assert why == f"SplitNotWhole(sum={sum(parts)})"


@pytest.mark.parametrize("sender", [ALICE, OPERATOR, GUARDIAN])
def test_only_the_timelock_changes_a_parameter(chain: Chain, sender: str) -> None:
    for call in (("setSplit", (0, 0, 0, 10000)), ("set", [word("a")], [1])):
        why = chain.reverts(sender, "Parameters", *call)
        assert why.startswith("OwnableUnauthorizedAccount")


def test_several_values_are_one_version(chain: Chain) -> None:
    timelock = as_timelock(chain)
    chain.send(timelock, "Parameters", "set", [word("a"), word("b")], [1, 2])
    assert chain.read("Parameters", "version") == 2
    assert chain.read("Parameters", "get", word("b")) == 2


@pytest.mark.parametrize(
    ("keys", "values", "why"),
    [
        ([], [], "LengthMismatch"),
        ([word("a")], [], "LengthMismatch"),
        ([word("split.platform")], [1], "PartOfSplit"),
        ([word("a")], [0], "Unchanged"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(chain: Chain, keys, values, why) -> None:
    timelock = chain.address("Timelock")
    assert chain.reverts(timelock, "Parameters", "set", keys, values).startswith(why)
