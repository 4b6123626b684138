"""npm works behind a proxy whose certificate only the machine knows."""

from pathlib import Path

import pytest

from ledger.chain import node


def test_npm_trusts_what_the_machine_trusts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "certificates.pem"
    bundle.touch()
    monkeypatch.setattr(node, "SYSTEM_CERTIFICATES", (tmp_path / "absent.pem", bundle))
    monkeypatch.delenv("NODE_EXTRA_CA_CERTS", raising=False)
    assert node.npm_environment()["NODE_EXTRA_CA_CERTS"] == str(bundle)


def test_a_choice_of_certificates_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "certificates.pem"
    bundle.touch()
    monkeypatch.setattr(node, "SYSTEM_CERTIFICATES", (bundle,))
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", "/mine.pem")
    assert node.npm_environment()["NODE_EXTRA_CA_CERTS"] == "/mine.pem"


def test_npm_comes_from_the_wheel_where_the_path_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node.shutil, "which", lambda _name: None)
    command = node.npm_command()
    assert Path(command[0]).name == "node"
    assert Path(command[0]).exists()
    assert Path(command[1]).exists()
