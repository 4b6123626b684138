"""Deploying twice finds the first; the roles end with the timelock; unsafe keys sign nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from ledger.chain.addresses import from_private_key
from ledger.chain.client import ChainClient
from ledger.chain.deploy import (
    DeploySettings,
    IncompleteDeploymentError,
    create_address,
    deploy,
    name_word,
)
from ledger.chain.deployment import read_deployment
from ledger.chain.keccak import keccak256
from ledger.chain.local import DEV_KEYS, LOCAL_CHAIN_ID
from ledger.chain.signers import UnsafeKeyError, load_signer
from ledger.models.chain import ChainBlock, Intent
from ledger.services import chain as intents
from tests.chain_fixtures import GUARDIAN, OPERATOR, STRANGER, Chain, Worker

ADMIN = b"\0" * 32
OWN_KEY = "0x" + "11" * 32


def role(name: str) -> bytes:
    return keccak256(name.encode())


def test_a_second_deployment_finds_the_first(chain: Chain) -> None:
    before = chain.client.nonce(OPERATOR)
    again = deploy(
        chain.client,
        load_signer(chain_id=LOCAL_CHAIN_ID),
        DeploySettings(OPERATOR, GUARDIAN),
        path=chain.path,
    )
    assert again == chain.deployment == read_deployment(chain.path)
    assert chain.client.nonce(OPERATOR) == before


@pytest.mark.parametrize(("nonce", "address"), [
    (0, "0x5FbDB2315678afecb367f032d93F642f64180aa3"),
    (1, "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512"),
])  # fmt: skip
def test_the_address_of_a_contract_follows_from_the_nonce(nonce: int, address: str) -> None:
    assert create_address(OPERATOR, nonce) == address


def test_the_deployer_keeps_no_say_over_the_timelock(chain: Chain) -> None:
    governor = chain.address("OpenGovernor")
    timelock = chain.address("Timelock")
    assert not chain.read("Timelock", "hasRole", ADMIN, OPERATOR)
    assert chain.read("Timelock", "hasRole", ADMIN, timelock)
    assert chain.read("Timelock", "hasRole", role("PROPOSER_ROLE"), governor)
    assert chain.read("Timelock", "hasRole", role("CANCELLER_ROLE"), governor)
    assert not chain.read("Timelock", "hasRole", role("PROPOSER_ROLE"), OPERATOR)


def test_the_timelock_owns_what_is_governed(chain: Chain) -> None:
    timelock = chain.address("Timelock")
    assert chain.read("Parameters", "owner") == timelock
    assert chain.read("LogAnchor", "owner") == timelock
    assert chain.read("AddressRegistry", "owner") == timelock
    for contract in ("RewardDistributor", "Gateway", "StakePools"):
        assert chain.read(contract, "hasRole", ADMIN, timelock)
        for other in (OPERATOR, GUARDIAN, STRANGER):
            assert not chain.read(contract, "hasRole", ADMIN, other)


def test_a_development_key_is_refused_on_every_other_chain() -> None:
    for key in DEV_KEYS:
        with pytest.raises(UnsafeKeyError):
            load_signer(chain_id=10, private_key=key)


def test_a_key_from_the_environment_is_refused_on_every_other_chain() -> None:
    with pytest.raises(UnsafeKeyError, match="CHAIN_KEYSTORE"):
        load_signer(chain_id=10, private_key=OWN_KEY)


def test_a_keystore_file_is_read_and_a_development_key_inside_refused(tmp_path) -> None:
    import json

    from eth_account import Account

    path = tmp_path / "key.json"
    path.write_text(json.dumps(Account.encrypt(OWN_KEY, "secret", iterations=2)))
    signer = load_signer(chain_id=10, keystore=str(path), password="secret")
    assert signer.address == from_private_key(OWN_KEY)
    with pytest.raises(ValueError):
        load_signer(chain_id=10, keystore=str(path), password="wrong")

    path.write_text(json.dumps(Account.encrypt(DEV_KEYS[0], "secret", iterations=2)))
    with pytest.raises(UnsafeKeyError):
        load_signer(chain_id=10, keystore=str(path), password="secret")


def test_a_signer_signs_for_its_own_chain_alone() -> None:
    signer = load_signer(chain_id=LOCAL_CHAIN_ID)
    with pytest.raises(UnsafeKeyError):
        signer.sign({"chainId": 1})


def test_the_client_never_retries_a_raw_send() -> None:
    client = ChainClient("http://127.0.0.1:1")
    allowed = client._provider.exception_retry_configuration.method_allowlist
    assert "eth_sendRawTransaction" not in allowed
    assert "eth_getBlockByNumber" in allowed


def test_the_recursion_limit_survives_the_import_of_web3() -> None:
    import subprocess
    import sys

    code = (
        "import sys; before = sys.getrecursionlimit();"
        "import ledger.chain.client, ledger.chain.signers;"
        "assert 'web3' in sys.modules; assert sys.getrecursionlimit() == before"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command_finds_what_is_deployed(worker: Worker, capsys) -> None:
    from ledger import workers

    workers.node.cache_clear()
    call_command("deploy_contracts")
    assert "Found on chain 31337" in capsys.readouterr().out


def test_the_command_says_what_to_do_when_the_chain_lost_the_contracts(
    worker: Worker, settings, tmp_path
) -> None:
    from ledger import workers

    workers.node.cache_clear()
    lost = tmp_path / "deployment.json"
    lost.write_text(
        worker.chain.path.read_text().replace('"genesis_hash": "0x', '"genesis_hash": "0y')
    )
    settings.CHAIN_DEPLOYMENT = lost
    worker.chain.send(STRANGER, "Gateway", "deposit", b"\1" * 32, value=1)
    worker.index()
    with pytest.raises(CommandError, match="--reset"):
        call_command("deploy_contracts")


def without(chain: Chain, path: Path, *names: str) -> Path:
    """The deployment's file as an earlier release wrote it."""
    written = json.loads(chain.path.read_text())
    for name in names:
        del written["addresses"][name]
    path.write_text(json.dumps(written))
    return path


def test_a_file_that_lacks_a_contract_is_refused_with_what_to_do(
    worker: Worker, settings, tmp_path
) -> None:
    from ledger import workers

    workers.node.cache_clear()
    settings.CHAIN_DEPLOYMENT = without(worker.chain, tmp_path / "old.json", "StakePools")
    with pytest.raises(IncompleteDeploymentError, match="lacks StakePools"):
        deploy(
            worker.chain.client,
            worker.signer,
            DeploySettings(OPERATOR, GUARDIAN),
            path=settings.CHAIN_DEPLOYMENT,
        )
    worker.chain.send(STRANGER, "Gateway", "deposit", b"\1" * 32, value=1)
    worker.index()
    with pytest.raises(CommandError, match=r"StakePools.*CHAIN_RESET=1 make demo"):
        call_command("deploy_contracts")
    settings.CHAIN_IS_LOCAL = False
    with pytest.raises(CommandError, match="Move the file away"):
        call_command("deploy_contracts", "--reset")


def test_the_doctor_says_which_contracts_are_missing_and_what_to_do(
    chain_settings: Chain, settings, tmp_path
) -> None:
    from config import doctor

    assert doctor._contracts().well
    settings.CHAIN_DEPLOYMENT = without(
        chain_settings, tmp_path / "old.json", "StakePools", "AddressRegistry"
    )
    finding = doctor._contracts()
    assert not finding.well
    assert "StakePools, AddressRegistry" in finding.fact
    assert "CHAIN_RESET=1" in finding.what_to_do
    settings.CHAIN_DEPLOYMENT.write_text("{")
    assert "cannot be read" in doctor._contracts().fact


def test_the_pools_start_on_the_terms_of_the_deployment(chain: Chain) -> None:
    staking = chain.deployment.settings["staking"]
    assert chain.read("StakePools", "terms") == tuple(
        staking[name]
        for name in ("cooldown", "period", "appeal_window", "slash_limit", "appeal_bond")
    )
    for name, kind, wait, period in staking["pools"]:
        assert chain.read("StakePools", "pools", name_word(name))[:4] == (kind, False, wait, period)
    assert chain.read("StakePools", "treasury") == chain.address("Timelock")
    assert chain.read("Gateway", "stakePools") == chain.address("StakePools")


def test_starting_over_forgets_the_mirror_and_fails_what_was_on_its_way(worker: Worker) -> None:
    from django.utils import timezone

    from ledger.services.starting_over import forget_chain

    intents.request_anchor(sequence=1, size=1, root=b"1" * 32, at=timezone.now())
    worker.run(1)
    forget_chain(chain_id=LOCAL_CHAIN_ID)
    assert not ChainBlock.objects.exists()
    assert Intent.objects.get().state == Intent.State.FAILED
