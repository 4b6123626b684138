"""The headless walk changes the split on a chain that runs by the clock on the wall."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.utils import timezone

from governance import headless, selectors
from governance.services import projection
from ledger import workers
from ledger.chain import local
from ledger.chain.client import ChainClient
from ledger.chain.deploy import DeploySettings, deploy
from ledger.chain.deployment import Deployment
from ledger.chain.signers import load_signer
from ledger.services.indexing import index_chain
from tests.chain_fixtures import GUARDIAN, OPERATOR, cache_folder, free_port

WANTED = {"platform": 1000, "model_owner": 2000, "stakers": 1900, "contributors": 5100}


@pytest.fixture
def ticking(settings, tmp_path: Path) -> Iterator[Deployment]:
    """A chain with a block each second and periods of seconds, as in the demo."""
    binary = local.ensure_anvil(cache_folder())
    with local.Anvil(binary, free_port(), block_time=1) as anvil:
        settings.CHAIN_ENABLED, settings.CHAIN_RPC_URL = True, anvil.url
        settings.CHAIN_DEPLOYMENT = tmp_path / "deployment.json"
        workers.node.cache_clear()
        periods = DeploySettings(
            OPERATOR, GUARDIAN, voting_delay=1, voting_period=10, timelock_delay=1,
            late_quorum_extension=1,
        )  # fmt: skip
        signer = load_signer(chain_id=local.LOCAL_CHAIN_ID)
        yield deploy(ChainClient(anvil.url), signer, periods, path=settings.CHAIN_DEPLOYMENT)
        workers.node.cache_clear()


def mirror(deployment: Deployment) -> None:
    index_chain(client=workers.node(), deployment=deployment, confirmations=2, at=timezone.now())
    projection.mirror(at=timezone.now())


def test_it_walks_from_wrapping_to_execution(ticking: Deployment, db) -> None:
    import time

    told: list[str] = []
    walk = headless.change_split(WANTED, report=told.append)

    assert list(walk.transactions) == ["wrap", "propose", "vote", "queue", "execute"]
    assert told[-1] == "executed"
    for _ in range(20):
        mirror(ticking)
        if selectors.current_split().version == 2:
            break
        time.sleep(0.5)
    split = selectors.current_split()
    assert {part.kind: part.basis_points for part in split.parts} == WANTED
    assert selectors.proposals().get().number == walk.number


def test_what_the_contract_would_refuse_is_said_before_it_is_sent(ticking: Deployment) -> None:
    broken = WANTED | {"platform": 1001}
    with pytest.raises(headless.HeadlessError, match="execute"):
        headless.change_split(broken)


def test_off_the_local_chain_there_is_no_walk(settings) -> None:
    settings.CHAIN_ID = 10
    with pytest.raises(headless.HeadlessError, match="local chain"):
        headless.change_split(WANTED)
