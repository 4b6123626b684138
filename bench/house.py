"""A PostgreSQL of one's own for a benchmark, which waits for the disk, and Django on it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.embedded import postgres


@contextmanager
def durable(folder: Path, *, connections: int = 60) -> Iterator[str]:
    """Serves a cluster under `folder` with `fsync` on and the product's tables; yields its URL.

    Django is set up inside, so that it reads this database's address.
    """
    folder.chmod(0o755)
    cluster = postgres.prepare(folder, max_connections=connections, durable=True, buffers="256MB")
    with (folder / "postgres.log").open("wb") as log:
        server = subprocess.Popen(
            cluster.command, stdout=log, stderr=log, cwd="/", **postgres.as_user(cluster)
        )
        try:
            postgres.wait_until_ready(cluster)
            url = postgres.ensure_database(cluster, "openledger")
            os.environ |= {"DATABASE_URL": url, "DEBUG": "0", "DATA_DIR": str(folder / "data")}
            os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
            os.environ.setdefault("SECRET_KEY", "a key for a benchmark")
            _migrate()
            yield url
        finally:
            server.send_signal(signal.SIGINT)  # at once: our own connections are still open
            server.wait(60)


def _migrate() -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
