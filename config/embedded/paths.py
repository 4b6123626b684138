"""Where an installation keeps its data, and on which ports its services listen.

Everything an embedded service writes lies under one folder, DATA_DIR. PostgreSQL refuses to run
as root, so a root process starts it as another user, who must be able to reach that folder: below
root's home, or in any folder that only its owner may enter, he cannot.
"""

import hashlib
import os
import socket
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_NAME = ".data"
SYSTEM_FOLDER = Path("/var/lib/openledger")


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def reachable_by_others(path: Path) -> bool:
    """True where every folder from `path` up to the root may be entered by any user."""
    existing = path
    while not existing.exists():
        existing = existing.parent
    return all(
        folder.stat().st_mode & stat.S_IXOTH for folder in (existing, *existing.resolve().parents)
    )


def default_data_dir(repository: Path = REPOSITORY) -> Path:
    """`.data` in the repository; where root is in a closed folder, one under /var/lib."""
    if not is_root() or reachable_by_others(repository):
        return repository / DEFAULT_NAME
    tag = hashlib.sha256(str(repository).encode()).hexdigest()[:10]
    return SYSTEM_FOLDER / f"{repository.name}-{tag}"


def data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    chosen = environ.get("DATA_DIR")
    return Path(chosen).expanduser().resolve() if chosen else default_data_dir()


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # A server of a moment ago leaves connections in TIME_WAIT, which do not hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(wanted: int, host: str = "127.0.0.1", tries: int = 100) -> int:
    """The first free port at or above `wanted`, this process's from now on.

    Two products that start at once would choose the same one, since seconds pass before a server
    listens there.

    Raises:
        RuntimeError: none of `tries` ports is free.
    """
    for port in range(wanted, wanted + tries):
        if port_is_free(port, host) and _claim(port):
            return port
    raise RuntimeError(f"No free port between {wanted} and {wanted + tries - 1}.")


_claims: dict[int, socket.socket] = {}


def _claim(port: int) -> bool:
    """True unless another process has claimed the port; a claim ends with its process."""
    if port in _claims or not sys.platform.startswith("linux"):
        return True
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        # A name in Linux's abstract namespace: no file, no owner, gone with the process.
        claim.bind(f"\0openledger-port-{port}")
    except OSError:
        claim.close()
        return False
    _claims[port] = claim
    return True
