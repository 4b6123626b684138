"""Heads go to the chain one at a time, and come back when the chain takes them back."""

from __future__ import annotations

import pytest

from attribution.models.log import Checkpoint
from ledger.models import Intent
from tests.attribution.log_helpers import intents, own_store, settle, signed

__all__ = ["intents", "own_store"]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_store")]


def states() -> list[str]:
    return list(Checkpoint.objects.order_by("size").values_list("state", flat=True))


def test_one_anchor_is_on_its_way_and_the_newest_head_follows(intents: list[Intent]) -> None:
    for _ in range(3):
        signed(1)
    assert states() == ["SUBMITTED", "RECORDED", "RECORDED"]
    assert len(intents) == 1
    settle(intents[0], Intent.State.FINAL)
    assert states() == ["ANCHORED", "RECORDED", "SUBMITTED"]
    assert bytes(intents[1].data).hex() == Checkpoint.objects.get(size=3).root


def test_a_failed_anchor_lets_the_newest_head_try(intents: list[Intent]) -> None:
    signed(1)
    signed(1)
    settle(intents[0], Intent.State.FAILED)
    assert states() == ["RECORDED", "SUBMITTED"]


def test_a_reorganisation_takes_an_anchor_back(intents: list[Intent]) -> None:
    signed(1)
    settle(intents[0], Intent.State.FINAL)
    settle(intents[0], Intent.State.SIGNED)
    assert states() == ["SUBMITTED"]


def test_without_a_chain_heads_stay_recorded() -> None:
    signed(1)
    assert states() == ["RECORDED"]
