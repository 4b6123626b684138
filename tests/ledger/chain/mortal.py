"""A sender that dies at the step it is told, or stops there; a life is a fork, so it costs little.

    python -m tests.ledger.chain.mortal

Reads one line of JSON for each command and answers with one:

- `{"live": {…}}` begins a life (see `Life`) and answers with its process id at once,
- `{"wait": PID}` answers how it ended, or that it stands still, and what it said.

A place where a life may die lies before and after each statement, each commit, each signature and
each request to the node of the sender's steps. What a life says is the number of such places that
it passed, and the name of the one at which it ended.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django

django.setup()

from django.db import connection  # noqa: E402
from django.utils import timezone  # noqa: E402

from ledger.chain import local  # noqa: E402
from ledger.chain.client import ChainClient, ChainError  # noqa: E402
from ledger.chain.deployment import read_deployment  # noqa: E402
from ledger.chain.jobs import SenderSettings  # noqa: E402
from ledger.chain.signers import KeySigner, Signed  # noqa: E402
from ledger.services.indexing import index_chain  # noqa: E402
from ledger.services.sending import LeaseLostError, send_step  # noqa: E402
from tests.ledger.chain.paying import PAYER_KEY  # noqa: E402


@dataclass(frozen=True)
class Life:
    """`rounds` steps of the sender, `ahead` seconds later than now; a block after each where it
    `mines`. It gets `sign` (9 kills, 19 stops) at place `at`, counted are those whose name begins
    with `where`."""

    url: str
    deployment: str
    ahead: float
    rounds: int
    mines: bool = True
    at: int = 0
    where: str = ""
    sign: int = signal.SIGKILL


class Places:
    """Counts the places of a life, and ends it at one of them."""

    def __init__(self, life: Life, tell: Callable[[str], None]) -> None:
        self.life = life
        self.tell = tell
        self.passed = 0
        self.sending = False

    def here(self, name: str) -> None:
        if not self.sending or not name.startswith(self.life.where):
            return
        self.passed += 1
        if self.passed == self.life.at:
            self.tell(name)
            os.kill(os.getpid(), self.life.sign)

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*values: Any, **named: Any) -> Any:
            self.here(f"before {name}")
            result = call(*values, **named)
            self.here(f"after {name}")
            return result

        return watched

    def statement(
        self, execute: Callable[..., Any], sql: str, parameters: Any, many: bool, context: Any
    ) -> Any:
        words = " ".join(str(sql).split()[:3])
        return self.around(words, execute)(sql, parameters, many, context)


class WatchedClient(ChainClient):
    def __init__(self, url: str, places: Places) -> None:
        super().__init__(url, timeout=5.0)
        self.places = places

    def rpc(self, method: str, *parameters: Any) -> Any:
        return self.places.around(method, super().rpc)(method, *parameters)

    def batch(self, calls: Sequence[Any]) -> list[Any]:
        name = f"batch of {calls[0][0]}" if calls else "batch of nothing"
        result: list[Any] = self.places.around(name, super().batch)(calls)
        return result


class WatchedSigner(KeySigner):
    def __init__(self, places: Places) -> None:
        super().__init__(PAYER_KEY, chain_id=local.LOCAL_CHAIN_ID)
        self.places = places

    def sign(self, transaction: dict[str, Any]) -> Signed:
        signed: Signed = self.places.around("signing", super().sign)(transaction)
        return signed


def live(life: Life, tell: Callable[[str], None]) -> str:
    """Carry out what is asked for; returns what is to be said at its natural end."""
    places = Places(life, tell)
    connection.ensure_connection()
    connection.commit = places.around("COMMIT", connection.commit)  # type: ignore[method-assign]
    client, signer = WatchedClient(life.url, places), WatchedSigner(places)
    deployment = read_deployment(Path(life.deployment))
    assert deployment is not None

    def now() -> datetime:
        return timezone.now().astimezone(UTC) + timedelta(seconds=life.ahead)

    with connection.execute_wrapper(places.statement):
        for _ in range(life.rounds):
            places.sending = True
            try:
                send_step(
                    client=client,
                    signer=signer,
                    chain_id=local.LOCAL_CHAIN_ID,
                    settings=SenderSettings(resend_after=1.0),
                    now=now,
                )
            except LeaseLostError:
                return f"lost its lease after {places.passed}"
            except ChainError as error:
                return f"node: {error}"
            places.sending = False
            if life.mines:
                client.rpc("evm_mine")
                index_chain(
                    client=client, deployment=deployment, confirmations=2, at=timezone.now()
                )
    return str(places.passed)


class Mother:
    """Holds no connection of its own, so that nothing is shared with her children."""

    def __init__(self) -> None:
        self.said: dict[int, int] = {}

    def begin(self, fields: dict[str, Any]) -> int:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            os._exit(_be_born(Life(**fields), writing))
        os.close(writing)
        self.said[pid] = reading
        return pid

    def wait(self, pid: int) -> dict[str, Any]:
        _, status = os.waitpid(pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return {"stopped": True, "said": os.read(self.said[pid], 4096).decode()}
        with os.fdopen(self.said.pop(pid)) as pipe:
            said = pipe.read()
        killed = os.WIFSIGNALED(status)
        return {"killed": killed, "said": said, "failed": not killed and os.WEXITSTATUS(status)}


def _be_born(life: Life, writing: int) -> int:
    try:
        os.write(writing, live(life, lambda name: _say(writing, name)).encode())
    except BaseException:
        import traceback

        os.write(writing, traceback.format_exc().encode()[-3000:])
        return 1
    return 0


def _say(pipe: int, name: str) -> None:
    os.write(pipe, name.encode())


def main() -> None:
    mother = Mother()
    for line in sys.stdin:
        command = json.loads(line)
        answer: Any = (
            mother.begin(command["live"]) if "live" in command else mother.wait(command["wait"])
        )
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
