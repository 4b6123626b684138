"""One parent process for everything the product runs on one machine.

Each child leads a process group of its own, so Ctrl-C in the terminal reaches the parent alone and
the parent decides the order in which things end. A child that dies is started again after a pause
that doubles up to `LONGEST_PAUSE`. What a child prints goes to a file of its own below
`DATA_DIR/logs` and, with its name in front, to `all.log`.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, Any

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
# A child that lived this long has started well: its next crash is paused for as a first one.
HEALTHY_AFTER = 60.0
LOG_BYTES = 10_000_000
POLL_SECONDS = 0.2
# The nice value of what yields.
YIELDING = 10


@dataclass(frozen=True)
class Service:
    """What to run and how to end it.

    `user` is the system user to run as (root only), `echo` shows its standard output on the
    terminal, `once` marks a command that ends by itself and is repeated only when it fails.
    `yields`: it computes for long, so others go first where processors are short.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    folder: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    grace: float = 10.0
    echo: bool = False
    once: bool = False
    yields: bool = False


class Child:
    """A running service: its process, its log and its restarts."""

    def __init__(self, service: Service, logs: "Logs", say: Callable[[str], None]) -> None:
        self.service = service
        self.process: subprocess.Popen[bytes] | None = None
        self.restarts = 0
        self._logs = logs
        self._say = say
        self._pause = FIRST_PAUSE
        self._started = 0.0
        self._next_start = 0.0
        self.done = False

    def start(self) -> None:
        service = self.service
        as_user: dict[str, Any] = {}
        if service.user is not None:
            as_user = {"user": service.user, "group": service.user, "extra_groups": []}
            as_user["umask"] = 0o077
        self.process = subprocess.Popen(
            list(service.command),
            cwd=service.folder,
            env={**os.environ, **service.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            **as_user,
        )
        if service.yields:
            let_others_first(self.process.pid)
        self._started = time.monotonic()
        assert self.process is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._read(self.process.stdout, echo=service.echo)
        self._read(self.process.stderr, echo=False)

    def _read(self, stream: IO[bytes], *, echo: bool) -> None:
        def copy() -> None:
            for raw in stream:
                line = raw.decode(errors="replace").rstrip("\n")
                self._logs.write(self.service.name, line)
                if echo:
                    self._say(f"{self.service.name} | {line}")

        threading.Thread(target=copy, daemon=True).start()

    def look(self) -> bool:
        """Starts the process again where it died and its pause is over; True where it did."""
        if self.done:
            return False
        if self.process is not None and self.process.poll() is None:
            return False
        now = time.monotonic()
        if self.process is not None:
            if self.service.once and self.process.returncode == 0:
                self.done = True
                return False
            self._bury(now)
        if now < self._next_start:
            return False
        self.restarts += 1
        self.start()
        return True

    def _bury(self, now: float) -> None:
        assert self.process is not None
        if now - self._started > HEALTHY_AFTER:
            self._pause = FIRST_PAUSE
        code = self.process.returncode
        kill_group(self.process.pid)
        self._say(
            f"{self.service.name} ended with {code}; starting it again in {self._pause:.0f} s "
            f"(its log: {self._logs.path(self.service.name)})"
        )
        self.process = None
        self._next_start = now + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def ask_to_stop(self) -> None:
        self.done = True
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(self.service.stop_signal)

    def make_stop(self, deadline: float) -> None:
        """Waits until `deadline` (monotonic seconds), then kills what is left of the group."""
        if self.process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.0, deadline - time.monotonic()))
        kill_group(self.process.pid)
        self.process.wait()


class Logs:
    """A rotating file for each service and one for all of them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._handlers: dict[str, RotatingFileHandler] = {}
        self._lock = threading.Lock()

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def write(self, name: str, line: str) -> None:
        stamp = time.strftime("%H:%M:%S")
        with self._lock:
            self._handler(name).emit(_record(f"{stamp} {line}"))
            self._handler("all").emit(_record(f"{stamp} {name:<12} | {line}"))

    def _handler(self, name: str) -> RotatingFileHandler:
        if name not in self._handlers:
            self._handlers[name] = RotatingFileHandler(
                self.path(name), maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8"
            )
        return self._handlers[name]

    def tail(self, name: str, lines: int = 15) -> str:
        try:
            return "\n".join(self.path(name).read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""


class Supervisor:
    """Starts services, keeps them running, and stops them in reverse order."""

    def __init__(self, data_dir: Path, say: Callable[[str], None] | None = None) -> None:
        self.logs = Logs(data_dir / "logs")
        self.say = say or _print
        # Called in the watching thread whenever a child has a new process.
        self.on_restart: Callable[[], None] = lambda: None
        self.children: dict[str, Child] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    def start(self, service: Service) -> None:
        child = Child(service, self.logs, self.say)
        child.start()
        with self._lock:
            self.children[service.name] = child

    def pids(self) -> dict[str, int]:
        with self._lock:
            children = dict(self.children)
        return {
            name: child.process.pid
            for name, child in children.items()
            if child.process is not None and child.process.poll() is None
        }

    def is_running(self, name: str) -> bool:
        return name in self.pids()

    def watch(self) -> None:
        """Brings crashed children back until `stop`, in a thread of its own."""
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            with self._lock:
                children = list(self.children.values())
            for child in children:
                if self._stopping.is_set():
                    return
                try:
                    if child.look():
                        self.on_restart()
                except OSError as error:
                    self.say(f"{child.service.name} does not start: {error}")

    def run(self, command: Sequence[str], *, name: str, environment: Mapping[str, str]) -> int:
        """Runs a command to its end with its output in the logs; returns its exit status.

        Where it fails, the last lines of its log are shown.
        """
        process = subprocess.Popen(
            list(command),
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            for raw in process.stdout:
                self.logs.write(name, raw.decode(errors="replace").rstrip("\n"))
            code = process.wait()
        except BaseException:
            kill_group(process.pid)
            raise
        if code:
            self.say(f"{name} failed with {code}:\n{self.logs.tail(name)}")
        return code

    def stop(self) -> None:
        """Ends all children, the last started first."""
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join()
        with self._lock:
            children = list(self.children.values())[::-1]
        # What others lean on (started first) must outlive them, or they log a lost connection.
        leaning = [child for child in children if child.service.name not in FOUNDATIONS]
        founding = [child for child in children if child.service.name in FOUNDATIONS]
        for layer in (leaning, founding):
            for child in layer:
                child.ask_to_stop()
            now = time.monotonic()
            for child in layer:
                child.make_stop(now + child.service.grace)


FOUNDATIONS = frozenset({"postgres", "redis", "anvil"})


def let_others_first(pid: int) -> None:
    """Give the session that `pid` leads a tenth of a weight where processors are short.

    Linux shares them among sessions first (sched(7), autogroup), so a process's own nice value
    would count within its session alone. Where there is no such file it is all there is.
    """
    share = Path(f"/proc/{pid}/autogroup")
    for _ in range(5):
        try:
            share.write_text(f"{YIELDING}\n")
            return
        except BlockingIOError:
            time.sleep(0.1)  # Linux takes one such change in a tenth of a second
        except FileNotFoundError:
            break
        except OSError:
            return
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, YIELDING)


def kill_group(pid: int) -> None:
    """Kills whatever is left of the process group that `pid` led."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _record(line: str) -> logging.LogRecord:
    return logging.LogRecord("openledger", logging.INFO, "", 0, line, None, None)


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
