"""The committed artifacts are what the committed sources build, byte for byte."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ledger.chain.artifacts import ARTIFACTS, CONTRACTS
from ledger.chain.node import NodeMissingError, node_command, npm_command, npm_environment
from tests.chain_fixtures import cache_folder
from tests.ledger.contracts.tools import HOSTILE

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


def built(modules: Path, out: Path, *options: str) -> dict[str, bytes]:
    command = [*node_command(), str(SOURCES / "build.mjs"), "--modules", str(modules)]
    subprocess.run([*command, "--out", str(out), *options], check=True, capture_output=True)
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_a_rebuild_differs_in_no_byte(modules: Path, tmp_path: Path) -> None:
    committed = {path.name: path.read_bytes() for path in ARTIFACTS.iterdir()}
    assert sorted(committed) == sorted(f"{name}.json" for name in CONTRACTS)
    assert built(modules, tmp_path / "built") == committed


def test_the_contracts_that_only_tests_use_are_rebuilt_likewise(
    modules: Path, tmp_path: Path
) -> None:
    committed = {path.name: path.read_bytes() for path in (HOSTILE / "artifacts").iterdir()}
    assert built(modules, tmp_path / "built", "--src", str(HOSTILE)) == committed


def test_every_function_event_and_error_of_ours_says_what_it_is(modules: Path) -> None:
    """NatSpec: each declaration in the sources that others see has a notice right before it."""
    bare = [
        f"{path.name}:{number}: {line.strip()}"
        for path in sorted((SOURCES / "src").glob("*.sol"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if _is_seen_by_others(path.read_text().splitlines(), number - 1)
        and not path.read_text().splitlines()[number - 2].strip().startswith(("///", "//"))
    ]
    assert bare == []


def _is_seen_by_others(lines: list[str], at: int) -> bool:
    line = lines[at].strip()
    if line.startswith(("event ", "error ", "struct ", "enum ", "contract ", "abstract contract ")):
        return True
    if line.startswith("function "):
        # The head of a function may go on for some lines.
        head = " ".join(lines[at : at + 12]).split("{")[0].split(";")[0]
        return " external" in head or " public" in head
    return " public " in line and not line.startswith(("///", "*"))
