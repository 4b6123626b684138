"""`make demo` and `make tour`: the whole product up, until Ctrl-C or for one command."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from config.embedded.house import House, StartError
from config.embedded.paths import REPOSITORY, data_dir
from config.embedded.state import AlreadyRunningError, running_environment


class StopRequestedError(Exception):
    """Ctrl-C or SIGTERM."""


def demo() -> int:
    """Runs the product with sample data until it is told to stop; returns the exit status."""
    began = time.monotonic()
    house = House()
    try:
        house.lock()
    except AlreadyRunningError as refusal:
        house.say(str(refusal))
        return 1
    _on_stop_signals()
    try:
        house.say(f"Starting on {house.data_dir} …")
        house.start_foundations()
        house.prepare()
        house.manage("seed_demo")
        house.start_processes()
        house.wait_for_web()
        house.say(welcome(house, time.monotonic() - began))
        house.start_once("sample", "seed_demo", "--continue")
        _stay()
    except StopRequestedError:
        pass
    except StartError as error:
        house.say(str(error))
        house.say(f"All logs: {house.supervisor.logs.folder}")
        return 1
    finally:
        _ignore_stop_signals()
        house.say("Stopping …")
        house.close()
        house.say("Stopped. The data stays; `make demo` goes on with it.")
    return 0


def tour(command: Sequence[str]) -> int:
    """Runs a command of the product on what runs already, else on what it starts and stops."""
    running = running_environment()
    if running:
        return subprocess.call(list(command), env={**os.environ, **running}, cwd=REPOSITORY)
    house = House(say=_say_aside)
    try:
        house.lock()
    except AlreadyRunningError as refusal:
        house.say(str(refusal))
        return 1
    _on_stop_signals()
    try:
        house.start_foundations()
        house.prepare()
        house.start_processes()
        house.wait_for_web()
        environment = {**os.environ, **house.environment}
        return subprocess.call(list(command), env=environment, cwd=REPOSITORY)
    except StopRequestedError:
        return 130
    except StartError as error:
        house.say(str(error))
        return 1
    finally:
        _ignore_stop_signals()
        house.close()


def welcome(house: House, seconds: float) -> str:
    """What a person sees when everything is up: address, logins, what to click first."""
    from config.sample.people import LOGINS, PASSWORD

    width = max(len(login.email) for login in LOGINS)
    lines = [f"  {login.email:<{width}}  {login.what}" for login in LOGINS]
    return "\n".join(
        [
            "",
            f"OpenLedger runs: {house.address}   (up in {seconds:.0f} s)",
            "",
            f"Log in with one of these; the password of all is  {PASSWORD}",
            *lines,
            "",
            "Click first: log in as reviewer@openledger.test, open the Datanet Python answers and",
            "decide on the records that wait. Meanwhile the sample goes on behind: a version, a",
            "run, answers, a payout; the home page shows how far it is (some minutes). Then, as",
            "contributor@openledger.test, open Earnings and follow a figure to the answer that",
            "paid it, and ask for more answers in the Playground as builder@openledger.test.",
            "",
            f"E-mails are printed here. Logs: {house.supervisor.logs.folder}. "
            f"Data: {data_dir()}. Ctrl-C stops everything.",
        ]
    )


def _stay() -> None:
    while True:
        signal.pause()


def _on_stop_signals() -> None:
    def handle(_signal: int, _frame: FrameType | None) -> None:
        raise StopRequestedError

    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, handle)


def _ignore_stop_signals() -> None:
    """Once is enough: a second Ctrl-C must not leave half of the children running."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)


def _say_aside(line: str) -> None:
    # Standard output belongs to the command, which may print JSON on it.
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
