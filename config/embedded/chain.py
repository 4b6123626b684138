"""The local chain: where its binary is kept, and the command that runs it under the supervisor."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from config.embedded.paths import free_port
from ledger.chain import local, local_state

DEFAULT_PORT = 8545
BLOCK_SECONDS = 1


def cache_folder() -> Path:
    """Where npm puts the binary: inside the virtual environment, so that both go together."""
    chosen = os.environ.get("OPENLEDGER_CACHE")
    return Path(chosen) if chosen else Path(sys.prefix) / "share" / "openledger"


def install() -> Path:
    """Raises ledger.chain.local.LocalChainError with what to do."""
    return local.ensure_anvil(cache_folder())


def command(data_dir: Path, *, port: int) -> tuple[str, ...]:
    """Raises ledger.chain.local.LocalChainError where there is no binary to be had."""
    folder = data_dir / "chain"
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "anvil.json"
    anvil = local.anvil_command(install(), port, state, BLOCK_SECONDS)
    # Before each start, also of one that crashed.
    return (sys.executable, "-m", local_state.__name__, str(state), *anvil)


def is_local(environ: Mapping[str, str]) -> bool:
    """True unless CHAIN_ID names another chain than a development one."""
    return environ.get("CHAIN_ID", str(local.LOCAL_CHAIN_ID)) == str(local.LOCAL_CHAIN_ID)


def choose_port() -> int:
    return free_port(DEFAULT_PORT)


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def wait_until_ready(port: int) -> None:
    local.wait_until_up(port, timeout=60)
