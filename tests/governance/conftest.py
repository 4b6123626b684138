import pytest

from tests.chain_fixtures import (
    Worker,
    chain,
    chain_settings,
    deployed_chain,
    late_finality,
    worker,
)
from tests.governance.holders import Holders

__all__ = ["chain", "chain_settings", "deployed_chain", "late_finality", "worker"]


@pytest.fixture
def holders(worker: Worker) -> Holders:
    return Holders(worker)
