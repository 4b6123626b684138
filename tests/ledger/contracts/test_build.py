"""The committed artifacts are what the committed sources build, byte for byte."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ledger.chain.artifacts import ARTIFACTS, CONTRACTS
from ledger.chain.node import NodeMissingError, node_command, npm_command, npm_environment
from tests.chain_fixtures import cache_folder

SOURCES = ARTIFACTS.parent


@pytest.fixture(scope="module")
def modules() -> Path:
    """The pinned compiler and library, installed once into the cache."""
    try:
        npm = npm_command()
    except NodeMissingError as error:
        pytest.skip(f"the contracts cannot be rebuilt: {error}")
    folder = cache_folder() / "contracts"
    folder.mkdir(parents=True, exist_ok=True)
    lock = (SOURCES / "package-lock.json").read_text()
    installed = folder / "package-lock.json"
    if not (folder / "node_modules").exists() or installed.read_text() != lock:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SOURCES / name, folder / name)
        options = ["--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(
            [*npm, "ci", *options],
            cwd=folder,
            check=True,
            env=npm_environment(),
            timeout=600,
            capture_output=True,
        )
    return folder / "node_modules"


def test_a_rebuild_differs_in_no_byte(modules: Path, tmp_path: Path) -> None:
    command = [*node_command(), str(SOURCES / "build.mjs"), "--modules", str(modules)]
    subprocess.run([*command, "--out", str(tmp_path / "built")], check=True, capture_output=True)

    built = {path.name: path.read_bytes() for path in (tmp_path / "built").iterdir()}
    committed = {path.name: path.read_bytes() for path in ARTIFACTS.iterdir()}
    assert sorted(committed) == sorted(f"{name}.json" for name in CONTRACTS)
    assert built == committed
