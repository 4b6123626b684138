"""On a real chain: heads are anchored in order, and log and contract say the same."""

from __future__ import annotations

import pytest

from attribution.models.log import Checkpoint
from attribution.reconciliation import check_tree
from attribution.services import log
from ledger.models import ChainLog
from tests.attribution.log_helpers import own_store, signed
from tests.chain_fixtures import Worker, chain, chain_settings, deployed_chain, worker

__all__ = ["chain", "chain_settings", "deployed_chain", "own_store", "worker"]

pytestmark = [pytest.mark.django_db(transaction=True)]


@pytest.fixture
def on_chain(own_store: None, chain_settings: object, settings: object) -> None:
    """The log's own store, and a chain (which the store's fixture switches off)."""
    settings.CHAIN_ENABLED = True  # type: ignore[attr-defined]


def test_heads_are_anchored_and_the_one_left_out_is_covered(on_chain: None, worker: Worker) -> None:
    for _ in range(3):
        signed(2)
    worker.run(rounds=12)

    states = list(Checkpoint.objects.order_by("size").values_list("state", flat=True))
    assert states == ["ANCHORED", "RECORDED", "ANCHORED"]
    newest = Checkpoint.objects.get(size=6)
    assert worker.chain.read("LogAnchor", "root").hex() == newest.root
    assert worker.chain.read("LogAnchor", "size") == 6
    assert worker.chain.read("LogAnchor", "sequence") == 3
    assert log.consistency(4, 6)
    assert [finding.name for finding in check_tree() if not finding.holds] == []


def test_an_anchor_of_another_root_is_found(on_chain: None, worker: Worker) -> None:
    signed(2)
    worker.run(rounds=8)
    event = ChainLog.objects.get(contract="LogAnchor", event="Anchored")
    event.arguments["root"] = "0x" + "11" * 32
    event.save(update_fields=["arguments"])
    wrong = [finding for finding in check_tree() if not finding.holds]
    assert [finding.name for finding in wrong] == [
        "anchors on the chain that are no checkpoint's (rows)"
    ]
    assert event.tx_hash in wrong[0].detail
