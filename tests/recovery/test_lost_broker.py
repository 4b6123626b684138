"""The broker may lose everything: work of each kind that was waiting in it is done all the same."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest

from tests.recovery.conftest import PATIENCE, Rig, Run
from tests.recovery.test_killed_workers import unfinished

pytestmark = pytest.mark.timeout(900)

WORKERS = ("worker", "train", "attribute", "chain")


def test_waiting_work_of_each_kind_outlives_the_broker(
    rig: Rig, killed_run: Run, service: dict[str, Any]
) -> None:
    ready = rig.act("prepare_contributions")
    rig.until("rest", lambda: not unfinished(rig))
    rig.keep_down(WORKERS)
    # Answered, with their attributions waiting for a worker that is away.
    for _ in range(2):
        assert _ask(rig, service, timeout=120).status_code == 200
    rig.keep_down(["generate"])
    held = ThreadPoolExecutor(1).submit(_ask, rig, service, timeout=PATIENCE)
    rig.until("the held question", lambda: unfinished(rig).get("completions"))
    work = rig.act("make_work", run=killed_run.id, **ready)["work"]
    assert len(work) >= 9
    rig.until("their messages in the broker", lambda: not _unsent(rig))
    rig.keep_down(["redis"])
    for dump in (rig.house.data_dir / "redis").glob("*.rdb"):
        dump.unlink()
    rig.let_up(["redis", "generate", *WORKERS])
    for table, identifier, state in work:
        reached = f"SELECT 1 FROM {table} WHERE id = %s AND state = %s"
        rig.until(f"{table} {state}", partial(rig.value, reached, identifier, state))
    assert held.result().status_code == 200
    rig.until("rest", lambda: not unfinished(rig))


def _ask(rig: Rig, service: dict[str, Any], timeout: float) -> httpx.Response:
    return httpx.post(
        f"{rig.house.address}/v1/chat/completions",
        headers={"Authorization": f"Bearer {service['key']}"},
        json={
            "model": service["model"],
            "messages": [{"role": "user", "content": "What is json for?"}],
            "max_tokens": 8,
        },
        timeout=timeout,
    )


def _unsent(rig: Rig) -> int:
    found: int = rig.value(
        "SELECT count(*) FROM accounts_outboxmessage WHERE sent_at IS NULL AND available_at < now()"
    )
    return found
