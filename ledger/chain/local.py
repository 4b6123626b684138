"""The local chain: finds or installs the anvil binary, starts it, waits for it, stops it.

Anvil runs with interval mining, since its automine loses accepted transactions under bursts, and
with few slots in an epoch, so that the `safe` and `finalized` tags are of use soon. Its state lives
in one file: written every few seconds and on SIGTERM, read at the next start.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from ledger.chain.local_state import keep_first_genesis
from ledger.chain.node import NPM_SECONDS, npm_command, npm_environment

ANVIL_VERSION = "1.7.1"
LOCAL_CHAIN_ID = 31337
# Blocks whose state anvil keeps in memory. Without a bound it spills one file a block into the
# home folder, and a chain with a block each second runs for days.
STATES_KEPT = 256
STATE_INTERVAL_SECONDS = 5
# Anvil takes a block for safe after one epoch and for final after two. Where the state is kept, a
# block must not be final before it is on the disk: whose power fails would have a chain without it.
SLOTS = 1
SLOTS_WHERE_KEPT = 4
# OPEN that each of the dev accounts starts with; the faucet gives from it.
DEV_BALANCE = 10_000_000

# Anvil's accounts for its default mnemonic "test test … junk": public keys of a toy chain, refused
# anywhere else (see ledger.chain.signers).
DEV_KEYS: tuple[str, ...] = (
    "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    "0x47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    "0x8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
    "0x92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e",
    "0x4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356",
    "0xdbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97",
    "0x2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6",
)
DEV_ADDRESSES: tuple[str, ...] = (
    "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
    "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
    "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
    "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65",
    "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc",
    "0x976EA74026E726554dB657fA54763abd0C3a0aa9",
    "0x14dC79964da2C08b23698B3D3cc7Ca32193d9955",
    "0x23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f",
    "0xa0Ee7A142d267C1f36714E4a8F75612F20a79720",
)


class LocalChainError(RuntimeError):
    """Anvil could not be installed, or did not come up."""


def ensure_anvil(cache_dir: Path) -> Path:
    """The path of an anvil binary: from the cache, else the PATH, else installed by npm.

    Safe to call from several processes at once. Raises LocalChainError with what to do.
    """
    cached = _binary_in(_install_folder(cache_dir))
    if cached.exists():
        return cached
    on_path = shutil.which("anvil")
    if on_path:
        return Path(on_path)
    return _install(cache_dir)


def anvil_command(path: Path, port: int, state_path: Path | None, block_time: int) -> list[str]:
    """The command line of a local chain on 127.0.0.1.

    `block_time` is in seconds; 0 means no mining but by `evm_mine`. Without `state_path` the chain
    is forgotten at its end.
    """
    command = [str(path), "--host", "127.0.0.1", "--port", str(port), "--quiet"]
    slots = SLOTS if state_path is None else SLOTS_WHERE_KEPT
    command += ["--chain-id", str(LOCAL_CHAIN_ID), "--slots-in-an-epoch", str(slots)]
    command += ["--prune-history", str(STATES_KEPT), "--balance", str(DEV_BALANCE)]
    command += ["--block-time", str(block_time)] if block_time else ["--no-mining"]
    if state_path is not None:
        command += ["--state", str(state_path), "--state-interval", str(STATE_INTERVAL_SECONDS)]
    return command


def wait_until_up(port: int, *, timeout: float = 20.0) -> int:
    """Wait until the node on 127.0.0.1:`port` answers; returns its chain id.

    Raises LocalChainError when it has not answered after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return _chain_id(port)
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            if time.monotonic() > deadline:
                raise LocalChainError(
                    f"No chain answers on 127.0.0.1:{port} after {timeout:g} s."
                ) from None
            time.sleep(0.05)


@dataclass
class Anvil:
    """One running node; `with Anvil(...) as chain` starts and stops it."""

    binary: Path
    port: int
    state_path: Path | None = None
    block_time: int = 1
    log_path: Path | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *, timeout: float = 20.0) -> None:
        """Start the node and wait until it answers. Raises LocalChainError."""
        if self.state_path is not None:
            keep_first_genesis(self.state_path)
        command = anvil_command(self.binary, self.port, self.state_path, self.block_time)
        with Path(self.log_path or os.devnull).open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_until_up(self.port, timeout=timeout)
        except LocalChainError:
            self.stop()
            raise

    def stop(self, *, timeout: float = 15.0) -> None:
        """Ask it to end, which writes its state; after `timeout` seconds make it."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _install_folder(cache_dir: Path) -> Path:
    return Path(cache_dir) / f"anvil-{ANVIL_VERSION}"


def _binary_in(folder: Path) -> Path:
    name = "anvil.exe" if sys.platform == "win32" else "anvil"
    return folder / "node_modules" / "@foundry-rs" / f"anvil-{_platform()}" / "bin" / name


def _platform() -> str:
    machine = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
    return f"{sys.platform}-{machine.get(platform.machine().lower(), platform.machine())}"


def _install(cache_dir: Path) -> Path:
    folder = _install_folder(cache_dir)
    with _locked(Path(cache_dir)):
        if not _binary_in(folder).exists():
            _npm_install(folder)
    return _binary_in(folder)


def _npm_install(folder: Path) -> None:
    # Installed beside and then renamed, so that a half download is never taken for the whole.
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        prefix = Path(scratch) / "anvil"
        prefix.mkdir()
        command = [*npm_command(), "install", "--prefix", str(prefix), "--no-audit", "--no-fund"]
        command += ["--ignore-scripts", f"@foundry-rs/anvil@{ANVIL_VERSION}"]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                env=npm_environment(),
                timeout=NPM_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise LocalChainError(f"npm did not end within {NPM_SECONDS:g} s.") from error
        if done.returncode != 0 or not _binary_in(prefix).exists():
            raise LocalChainError(
                f"npm could not install @foundry-rs/anvil {ANVIL_VERSION} for {_platform()}. "
                "Put an `anvil` binary on the PATH, or set CHAIN_RPC_URL to a chain of your own.\n"
                + (done.stderr or done.stdout)[-2000:]
            )
        shutil.rmtree(folder, ignore_errors=True)
        prefix.rename(folder)


@contextmanager
def _locked(cache_dir: Path) -> Iterator[None]:
    cache_dir.mkdir(parents=True, exist_ok=True)
    with (cache_dir / ".anvil.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _chain_id(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []})
        connection.request("POST", "/", body, {"Content-Type": "application/json"})
        return int(json.loads(connection.getresponse().read())["result"], 16)
    finally:
        connection.close()
