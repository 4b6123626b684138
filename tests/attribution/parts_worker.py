"""The attribute worker as it is deployed, with small shards, and told when to begin and to hang.

    celery -A tests.attribution.parts_worker:app worker ...

PARTS_JOURNAL is a file that gets a line with the process and the first record of each shard that is
begun. With PARTS_STOP=N the process hangs where it would begin its shard N, until it is killed. It
takes no work before the file PARTS_GATE is there.
"""

import os
import time
from pathlib import Path

from config.celery import app

# isort: split
from attribution import averaging, workers  # noqa: F401  (brings torch before the gate)
from attribution.influence import build
from attribution.influence.config import InfluenceConfig

JOURNAL, GATE = Path(os.environ["PARTS_JOURNAL"]), Path(os.environ["PARTS_GATE"])
STOP = int(os.environ.get("PARTS_STOP", "0"))
SMALL = InfluenceConfig(fit_min=12, shard_records=5, batch_tokens=256)

_make_shard = build.make_shard
_begun: list[str] = []


def make_shard(model, factors, selection, examples, *rest):
    _begun.append(examples[0].record_id)
    hangs = len(_begun) == STOP
    with JOURNAL.open("a") as out:
        out.write(f"{os.getpid()} {'hangs' if hangs else _begun[-1]}\n")
    while hangs:
        time.sleep(60)
    return _make_shard(model, factors, selection, examples, *rest)


build.make_shard = make_shard
averaging.config_of = lambda model: SMALL
while not GATE.exists():
    time.sleep(0.05)

__all__ = ["app"]
