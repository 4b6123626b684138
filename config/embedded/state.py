"""What runs for a DATA_DIR: one lock, so that two never run at once, and the addresses in use."""

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import IO, Any

from config.embedded.paths import data_dir

# What a command needs to reach running services; nothing secret is written down.
PUBLISHED = ("DATABASE_URL", "REDIS_URL", "CHAIN_RPC_URL", "SITE_URL", "DATA_DIR")


class AlreadyRunningError(RuntimeError):
    """Another supervisor holds this DATA_DIR."""


class RunState:
    """The file `run/state.json` of a DATA_DIR and the lock beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "run"
        self.file = self.folder / "state.json"
        self._lock: IO[str] | None = None

    def acquire(self) -> None:
        """Takes the lock and ends what a killed supervisor left behind.

        Raises:
            AlreadyRunningError: another supervisor holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = (self.folder / "lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            address = self.read().get("environment", {}).get("SITE_URL", "")
            raise AlreadyRunningError(
                f"OpenLedger already runs on {self.folder.parent}"
                + (f": open {address}" if address else ".")
            ) from None
        self._lock = lock
        _end_left_behind(self.read().get("processes", {}))

    def release(self) -> None:
        self.file.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def is_held(self) -> bool:
        """True where a supervisor runs on this DATA_DIR."""
        path = self.folder / "lock"
        if not path.exists():
            return False
        with path.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    def read(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found

    def write(self, *, environment: Mapping[str, str], pids: Mapping[str, int]) -> None:
        import psutil

        processes = {}
        for name, pid in pids.items():
            with contextlib.suppress(psutil.Error):
                processes[name] = {"pid": pid, "started": psutil.Process(pid).create_time()}
        state = {
            "pid": os.getpid(),
            "environment": {key: environment[key] for key in PUBLISHED if key in environment},
            "processes": processes,
        }
        scratch = self.file.with_suffix(".new")
        scratch.write_text(json.dumps(state, indent=1))
        scratch.replace(self.file)


def running_environment(folder: Path | None = None) -> dict[str, str]:
    """The addresses of the services that run for a DATA_DIR, {} where none do."""
    state = RunState(folder or data_dir())
    if not state.is_held():
        return {}
    found: dict[str, str] = state.read().get("environment", {})
    return found


def use_running_services(environ: MutableMapping[str, str]) -> None:
    """Lets a command started by hand find the services of `make demo`.

    Only where nothing was chosen: an address that is set stays as it is.
    """
    if "DATABASE_URL" in environ:
        return
    for key, value in running_environment(data_dir(environ)).items():
        environ.setdefault(key, value)


def _end_left_behind(processes: Mapping[str, Mapping[str, Any]]) -> None:
    """Ends the children of a killed supervisor; a pid that now means another process is left."""
    import psutil

    remaining = []
    for entry in processes.values():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            process = psutil.Process(entry["pid"])
            if abs(process.create_time() - entry["started"]) < 1:
                os.killpg(process.pid, signal.SIGTERM)
                remaining.append(process)
    gone_by = time.monotonic() + 10
    psutil.wait_procs(remaining, timeout=max(0.0, gone_by - time.monotonic()))
    for process in remaining:
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if process.is_running():
                os.killpg(process.pid, signal.SIGKILL)
