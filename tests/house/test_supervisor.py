"""The parent of `make demo`: brings a crashed child back, ends all of them, leaves none behind."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from config.embedded.supervisor import YIELDING, Service, Supervisor
from config.embedded.workers import services

LIVES = "import time\nprint('alive', flush=True)\ntime.sleep(600)"
IGNORES_SIGTERM = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{LIVES}"
HAS_A_CHILD = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(600)"
)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, said: list[str]) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path, said.append)
    yield supervisor
    supervisor.stop()


def python(name: str, script: str, **options: object) -> Service:
    return Service(name, (sys.executable, "-c", script), **options)  # type: ignore[arg-type]


def eventually(what: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_it_brings_a_killed_child_back(supervisor: Supervisor, said: list[str]) -> None:
    supervisor.start(python("web", LIVES))
    supervisor.watch()
    first = supervisor.pids()["web"]
    os.kill(first, signal.SIGKILL)
    eventually(lambda: supervisor.pids().get("web") not in (None, first))
    assert any("web ended with -9; starting it again in 1 s" in line for line in said)


def test_it_waits_longer_after_each_crash(supervisor: Supervisor, said: list[str]) -> None:
    supervisor.start(python("web", "raise SystemExit(3)"))
    supervisor.watch()
    eventually(lambda: sum("ended with 3" in line for line in said) >= 2)
    pauses = [line.split("again in ")[1].split(" s")[0] for line in said if "again" in line]
    assert pauses[:2] == ["1", "2"]


def test_a_command_that_is_done_is_not_repeated(supervisor: Supervisor) -> None:
    supervisor.start(python("sample", "print('done')", once=True))
    supervisor.watch()
    eventually(lambda: supervisor.children["sample"].done)
    assert supervisor.children["sample"].restarts == 0


def test_it_ends_a_child_that_ignores_sigterm(supervisor: Supervisor) -> None:
    supervisor.start(python("web", IGNORES_SIGTERM, grace=0.5))
    eventually(lambda: "alive" in supervisor.logs.tail("web"))
    pid = supervisor.pids()["web"]
    supervisor.stop()
    assert not psutil.pid_exists(pid)


def test_it_ends_the_children_of_its_children(supervisor: Supervisor) -> None:
    supervisor.start(python("train", HAS_A_CHILD, grace=0.5))
    eventually(lambda: supervisor.logs.tail("train"))
    grandchild = psutil.Process(int(supervisor.logs.tail("train").split()[-1]))
    supervisor.stop()
    eventually(lambda: not grandchild.is_running() or grandchild.status() == "zombie")


def test_the_foundations_end_last(supervisor: Supervisor, tmp_path: Path) -> None:
    script = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        f"    open({str(tmp_path / 'ended')!r}, 'a').write(sys.argv[1] + ' ')\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('alive', flush=True)\n"
        "time.sleep(600)"
    )
    for name in ("postgres", "web"):
        supervisor.start(Service(name, (sys.executable, "-c", script, name)))
        eventually(lambda name=name: "alive" in supervisor.logs.tail(name))
    supervisor.stop()
    assert (tmp_path / "ended").read_text().split() == ["web", "postgres"]


def test_what_a_child_prints_is_kept_with_its_name(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(python("relay", LIVES))
    eventually(lambda: "alive" in supervisor.logs.tail("relay"))
    assert "relay        | alive" in (tmp_path / "logs" / "all.log").read_text()


def test_a_step_that_fails_shows_the_end_of_its_log(
    supervisor: Supervisor, said: list[str]
) -> None:
    script = "print('no such table'); raise SystemExit(4)"
    code = supervisor.run((sys.executable, "-c", script), name="migrate", environment={})
    assert code == 4
    assert "no such table" in said[0]


def test_what_computes_for_long_lets_the_others_go_first(supervisor: Supervisor) -> None:
    supervisor.start(python("web", LIVES))
    supervisor.start(python("train", LIVES, yields=True))
    supervisor.start(python("generate", LIVES, yields=True))
    pids = supervisor.pids()

    def yields(name: str) -> bool:
        share = Path(f"/proc/{pids[name]}/autogroup")
        if share.exists():
            return share.read_text().split()[-1] == str(YIELDING)
        return os.getpriority(os.PRIO_PROCESS, pids[name]) == YIELDING

    assert [yields(name) for name in ("web", "train", "generate")] == [False, True, True]


def test_engines_training_and_attribution_are_what_computes_for_long() -> None:
    found = services(host="127.0.0.1", port=1, environment={"CHAIN_RPC_URL": "http://127.0.0.1:2"})
    assert {one.name for one in found if one.yields} == {"generate", "attribute", "train"}
