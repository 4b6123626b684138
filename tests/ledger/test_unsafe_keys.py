"""A key that must not be used is named before anything starts, on every chain but the local one."""

import json
import os
import subprocess
import sys
from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.utils import timezone

from config.doctor import examine
from config.embedded.paths import REPOSITORY
from ledger.chain.addresses import from_private_key
from ledger.chain.local import DEV_ADDRESSES, DEV_KEYS

OWN_KEY = "0x" + "11" * 32
MAINNET = 10


@pytest.fixture
def mainnet(settings):
    settings.CHAIN_ENABLED = True
    settings.CHAIN_RPC_URL = "http://127.0.0.1:1"
    settings.CHAIN_ID = MAINNET
    settings.CHAIN_IS_LOCAL = False
    settings.CHAIN_KEYSTORE = settings.CHAIN_KMS = ""
    return settings


def check() -> None:
    call_command("check", "--tag", "ledger", stdout=StringIO())


def keystore(tmp_path, address: str) -> str:
    path = tmp_path / "key.json"
    path.write_text(json.dumps({"version": 3, "crypto": {}, "address": address}))
    return str(path)


@pytest.mark.parametrize("key", [DEV_KEYS[0], DEV_KEYS[9], DEV_KEYS[3].removeprefix("0x")])
def test_a_development_key_is_named_off_the_local_chain(mainnet, monkeypatch, key) -> None:
    monkeypatch.setenv("CHAIN_PRIVATE_KEY", key)
    with pytest.raises(SystemCheckError, match=r"ledger\.E001") as refusal:
        check()
    assert "CHAIN_KEYSTORE" in str(refusal.value)
    assert key.removeprefix("0x") not in str(refusal.value)


def test_any_key_in_the_environment_is_named_off_the_local_chain(mainnet, monkeypatch) -> None:
    for key in (OWN_KEY, "no key at all"):
        monkeypatch.setenv("CHAIN_PRIVATE_KEY", key)
        with pytest.raises(SystemCheckError, match=r"ledger\.E002"):
            check()


@pytest.mark.parametrize("written", [str, str.lower, lambda one: one[2:].lower()])
def test_a_keystore_with_a_development_key_is_named(mainnet, tmp_path, written) -> None:
    mainnet.CHAIN_KEYSTORE = keystore(tmp_path, written(DEV_ADDRESSES[0]))
    with pytest.raises(SystemCheckError, match=r"ledger\.E001"):
        check()


def test_a_keystore_that_cannot_be_read_is_named(mainnet, tmp_path) -> None:
    mainnet.CHAIN_KEYSTORE = str(tmp_path / "none.json")
    with pytest.raises(SystemCheckError, match=r"ledger\.E003"):
        check()


def test_a_key_of_ones_own_passes(mainnet, tmp_path) -> None:
    mainnet.CHAIN_KEYSTORE = keystore(tmp_path, from_private_key(OWN_KEY))
    check()
    mainnet.CHAIN_KEYSTORE, mainnet.CHAIN_KMS = "", "aws:key"
    check()


def test_a_process_without_a_key_passes(mainnet, monkeypatch) -> None:
    monkeypatch.delenv("CHAIN_PRIVATE_KEY", raising=False)
    check()


def test_on_the_local_chain_everybody_may_know_it(mainnet, monkeypatch, tmp_path) -> None:
    mainnet.CHAIN_IS_LOCAL, mainnet.CHAIN_ID = True, 31337
    monkeypatch.setenv("CHAIN_PRIVATE_KEY", DEV_KEYS[0])
    check()
    mainnet.CHAIN_KEYSTORE = keystore(tmp_path, DEV_ADDRESSES[0])
    check()


@pytest.mark.django_db
def test_the_doctor_names_it_and_says_what_to_do(mainnet, monkeypatch) -> None:
    monkeypatch.setenv("CHAIN_PRIVATE_KEY", DEV_KEYS[0])
    key = next(finding for finding in examine(at=timezone.now()) if finding.name == "key")
    assert not key.well
    assert "everybody knows" in key.fact
    assert "CHAIN_KMS" in key.what_to_do


def start_worker(tmp_path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "celery", "-A", "config.celery:app", "worker"]
    given = {name: value for name, value in os.environ.items() if not name.startswith("CHAIN_")}
    given |= {"CHAIN_RPC_URL": "http://127.0.0.1:1", "DATA_DIR": str(tmp_path), **environment}
    return subprocess.run(
        [*command, "--queues", "chain", "--pool", "solo"],
        cwd=REPOSITORY,
        env=given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_worker_of_the_chain_does_not_start_with_one(tmp_path) -> None:
    """A keystore that does not name its address is opened to see whose it is."""
    from eth_account import Account

    file = Account.encrypt(DEV_KEYS[0], "secret", iterations=2)
    del file["address"]
    path = tmp_path / "key.json"
    path.write_text(json.dumps(file))
    ended = start_worker(
        tmp_path, CHAIN_ID=str(MAINNET), CHAIN_KEYSTORE=str(path), CHAIN_KEYSTORE_PASSWORD="secret"
    )
    assert ended.returncode == 1
    assert "Not started:" in ended.stderr
    assert "development key" in ended.stderr
