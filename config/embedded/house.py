"""Everything up on one machine: the services that are not given, then the product's processes.

An address in the environment (DATABASE_URL, REDIS_URL, CHAIN_RPC_URL) means a service of one's own,
which is used and never started or stopped here.
"""

import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from config.embedded import chain, postgres, redis, workers
from config.embedded.paths import REPOSITORY, data_dir, free_port
from config.embedded.state import RunState
from config.embedded.supervisor import Service, Supervisor
from ledger.chain.local import LocalChainError

DEFAULT_WEB_PORT = 8000
WEB_TIMEOUT = 90.0


class StartError(RuntimeError):
    """Something that the product cannot do without did not start."""


class House:
    """The running product of one DATA_DIR. `lock` first: a second one is refused."""

    def __init__(
        self,
        folder: Path | None = None,
        say: Callable[[str], None] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`environ` stands for the environment of this process, and goes to every child."""
        self.given: Mapping[str, str] = os.environ if environ is None else environ
        self.data_dir = folder or data_dir()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.state = RunState(self.data_dir)
        self.supervisor = Supervisor(self.data_dir, say)
        self.supervisor.on_restart = self.publish
        self.say = self.supervisor.say
        self.host = self.given.get("HOST", "127.0.0.1")
        self.environment: dict[str, str] = {}
        self.web_port = 0

    @property
    def address(self) -> str:
        return self.environment["SITE_URL"]

    def lock(self) -> None:
        """Raises config.embedded.state.AlreadyRunningError."""
        self.state.acquire()

    def start_foundations(self) -> None:
        """PostgreSQL, Redis and the chain, where none is given; then schema and contracts.

        Raises:
            StartError: one of them did not come up; the message says what to do.
        """
        self.environment = {
            **self.given,
            "DATA_DIR": str(self.data_dir),
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "PYTHONUNBUFFERED": "1",
            # On a small machine, threads of several processes only wait for each other's core.
            "OMP_NUM_THREADS": self.given.get("OMP_NUM_THREADS", str(_threads())),
        }
        self.web_port = free_port(int(self.given.get("PORT", DEFAULT_WEB_PORT)))
        self.environment["SITE_URL"] = self.given.get(
            "SITE_URL", f"http://localhost:{self.web_port}"
        )
        try:
            waits = [self._start_postgres(), self._start_redis(), self._start_chain()]
            for wait in waits:
                wait()
        except (OSError, RuntimeError) as error:
            raise StartError(str(error)) from error
        self.publish()

    def _start_postgres(self) -> Callable[[], None]:
        if given := self.given.get("DATABASE_URL"):
            self.environment["DATABASE_URL"] = given
            return _nothing
        if not postgres.is_available():
            raise StartError("No PostgreSQL: set DATABASE_URL, or run `make install`.")
        cluster = postgres.prepare(self.data_dir, max_connections=200)
        self.supervisor.start(
            Service(
                name="postgres",
                command=cluster.command,
                user=cluster.user,
                folder=Path("/"),
                stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
                grace=30,
            )
        )

        def wait() -> None:
            postgres.wait_until_ready(cluster)
            self.environment["DATABASE_URL"] = postgres.ensure_database(cluster, "openledger")

        return wait

    def _start_redis(self) -> Callable[[], None]:
        if given := self.given.get("REDIS_URL"):
            self.environment["REDIS_URL"] = given
            return _nothing
        port = redis.choose_port()
        command = redis.command(self.data_dir, port=port)
        self.supervisor.start(Service(name="redis", command=command))
        self.environment["REDIS_URL"] = redis.url(port)
        return lambda: redis.wait_until_ready(redis.url(port))

    def _start_chain(self) -> Callable[[], None]:
        if given := self.given.get("CHAIN_RPC_URL"):
            self.environment["CHAIN_RPC_URL"] = given
            return _nothing
        if self.given.get("CHAIN_ENABLED", "").lower() in ("0", "false", "no", "off"):
            self.environment["CHAIN_ENABLED"] = "0"
            return _nothing
        port = chain.choose_port()
        try:
            command = chain.command(self.data_dir, port=port)
        except (LocalChainError, RuntimeError) as error:
            self.say(f"No local chain, so no deposits, claims or votes: {error}")
            self.environment["CHAIN_ENABLED"] = "0"
            return _nothing
        self.supervisor.start(Service(name="anvil", command=command, grace=15))
        self.environment["CHAIN_RPC_URL"] = chain.url(port)
        return lambda: chain.wait_until_ready(port)

    def prepare(self) -> None:
        """Brings the schema up to date and the contracts onto a local chain.

        Raises:
            StartError: a step failed; its log was shown.
        """
        self.manage("migrate", "--no-input", "--verbosity", "1")
        if self.environment.get("CHAIN_RPC_URL") and chain.is_local(self.given):
            # Elsewhere contracts cost money, so whoever wants them there says so by hand.
            self.manage("deploy_contracts", *(["--reset"] if self.given.get("CHAIN_RESET") else []))

    def manage(self, *arguments: str) -> None:
        """Runs a management command to its end. Raises StartError where it fails."""
        command = (sys.executable, str(REPOSITORY / "manage.py"), *arguments)
        if self.supervisor.run(command, name=arguments[0], environment=self.environment):
            raise StartError(f"`manage.py {arguments[0]}` failed.")

    def start_processes(self) -> None:
        for service in workers.services(
            host=self.host, port=self.web_port, environment=self.environment
        ):
            self.supervisor.start(service)
        self.supervisor.watch()
        self.publish()

    def start_once(self, name: str, *arguments: str) -> None:
        """A management command that goes on behind and is repeated where it fails."""
        command = (sys.executable, str(REPOSITORY / "manage.py"), *arguments)
        self.supervisor.start(
            Service(name=name, command=command, environment=self.environment, once=True)
        )
        self.publish()

    def wait_for_web(self) -> None:
        """Returns when the web process answers. Raises StartError after `WEB_TIMEOUT` seconds."""
        deadline = time.monotonic() + WEB_TIMEOUT
        address = f"http://127.0.0.1:{self.web_port}/health/"
        while not _answers(address):
            if time.monotonic() > deadline:
                log = self.supervisor.logs.tail("web")
                raise StartError(f"The web process does not answer on {address}:\n{log}")
            time.sleep(0.2)

    def publish(self) -> None:
        """Writes down what runs, for commands started by hand and for the next start."""
        # An address that was given may hold a password; whoever gave it knows it.
        ours = {key: value for key, value in self.environment.items() if key not in self.given}
        self.state.write(
            environment={**ours, "DATA_DIR": str(self.data_dir), "SITE_URL": self.address},
            pids=self.supervisor.pids(),
        )

    def close(self) -> None:
        self.supervisor.stop()
        self.state.release()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _threads() -> int:
    return max(1, (os.cpu_count() or 1) // 2)


def _nothing() -> None:
    """Nothing to wait for: the service is somebody else's."""
