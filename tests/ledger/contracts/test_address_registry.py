"""One address leads to all contracts; only the holders point a name elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.chain.deploy import deploy, follow_registry, name_word, registered
from ledger.chain.deployment import read_deployment
from tests.chain_fixtures import ALICE, GUARDIAN, OPERATOR, Chain
from tests.ledger.contracts.tools import Hostile, as_timelock

NAME = "AddressRegistry"
GATEWAY = name_word("Gateway")


def test_it_knows_every_other_contract_in_version_one(chain: Chain) -> None:
    known = registered(chain.client, chain.address(NAME))
    assert known == {
        name: place for name, place in chain.deployment.addresses.items() if name != NAME
    }
    assert chain.read(NAME, "version") == 1
    assert chain.read(NAME, "owner") == chain.address("Timelock")


def test_the_timelock_points_a_name_to_another_instance(chain: Chain) -> None:
    other = Hostile(chain, ALICE).address
    receipt = chain.send(as_timelock(chain), NAME, "set", [GATEWAY], [other])
    assert chain.events(receipt) == [
        (
            "AddressChanged",
            {"version": 2, "name": GATEWAY, "place": other, "previous": chain.address("Gateway")},
        )
    ]
    assert chain.read(NAME, "get", GATEWAY) == other
    names, places = chain.read(NAME, "all")
    assert dict(zip(names, places, strict=True))[GATEWAY] == other
    assert len(names) == len(set(names))


@pytest.mark.parametrize("sender", [ALICE, OPERATOR, GUARDIAN])
def test_nobody_else_does(chain: Chain, sender: str) -> None:
    why = chain.reverts(sender, NAME, "set", [GATEWAY], [chain.address("LogAnchor")])
    assert why.startswith("OwnableUnauthorizedAccount")


def test_a_change_that_makes_no_sense_is_refused(chain: Chain) -> None:
    timelock, gateway = chain.address("Timelock"), chain.address("Gateway")
    for names, places, why in (
        ([], [], "LengthMismatch"),
        ([GATEWAY], [], "LengthMismatch"),
        ([GATEWAY], [gateway], "Unchanged"),
        ([GATEWAY], [ALICE], "NotAContract"),
        ([bytes(32)], [gateway], "EmptyName"),
    ):
        assert chain.reverts(timelock, NAME, "set", names, places).startswith(why)
    assert chain.reverts(ALICE, NAME, "get", name_word("Bridge")).startswith("UnknownName")


def test_the_deployments_file_follows_the_registry(chain: Chain, tmp_path: Path) -> None:
    path = tmp_path / "deployment.json"
    path.write_text(chain.path.read_text())
    assert follow_registry(chain.client, chain.deployment, path) == chain.deployment

    other = Hostile(chain, ALICE).address
    names = [GATEWAY, name_word("Bridge")]
    chain.send(as_timelock(chain), NAME, "set", names, [other, other])
    settings = chain.deployment.settings
    assert settings["staking"]["pools"]
    # No signer and no settings are needed where everything stands already.
    found = deploy(chain.client, None, None, path=path)  # type: ignore[arg-type]
    assert found.address("Gateway") == found.address("Bridge") == other
    assert read_deployment(path) == found
