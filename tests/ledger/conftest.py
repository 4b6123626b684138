"""Named actors and a funded payer."""

import json

import pytest

from tests.ledger.books import OPEN, fund, person

CONTRACTS = {
    name: "0x" + f"{number:040x}"
    for number, name in enumerate(
        [
            "Timelock",
            "GovernanceToken",
            "OpenGovernor",
            "Parameters",
            "RewardDistributor",
            "LogAnchor",
            "StakePools",
            "Gateway",
            "AddressRegistry",
        ],
        start=0xC0DE,
    )
}


@pytest.fixture
def payer(db):
    user = person("payer")
    fund(user, 10 * OPEN)
    return user


@pytest.fixture
def builder(db):
    return person("builder")


@pytest.fixture
def contributor(db):
    return person("contributor")


@pytest.fixture
def stranger(db):
    return person("stranger")


@pytest.fixture(autouse=True)
def no_chain(settings, tmp_path):
    """A test has no chain unless it asks for one, whatever the machine's environment says."""
    settings.CHAIN_ENABLED = False
    settings.CHAIN_ID = 31337
    # A relayed claim costs nothing here, but in the tests about its fee.
    settings.RELAY_GAS_PRICE_WEI = 0
    settings.CHAIN_DEPLOYMENT = tmp_path / "deployment.json"
    settings.STORAGES = settings.STORAGES | {
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / "blobs")},
        }
    }


@pytest.fixture
def deployed(settings):
    """Contracts that stand on a chain; no node is asked, since only workers do that."""
    settings.CHAIN_ENABLED = True
    settings.CHAIN_DEPLOYMENT.write_text(
        json.dumps({"chain_id": 31337, "block": 0, "genesis_hash": "0x00", "addresses": CONTRACTS})
    )
