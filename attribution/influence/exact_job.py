"""`python -m attribution.influence.exact_job JOB_DIR`: a run once more, and back through it.

    job.json, records.jsonl, parents/   as `attribution.influence.lineage` has them
    answer.json                         {"input_ids", "loss_mask", "adapter_sha256"}
    events.jsonl                        PROGRESS with `done` of `total` steps, FAILED with a reason
    exact.json                          {"influences": {record: nats}, "loss", "steps"}

A process of its own, since it sets the whole process's threads and random numbers to those of the
run. Exit status: 0 finished, 1 failed (the last event says why), 3 told to stop.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from pathlib import Path

# cuBLAS reads this when torch is imported; the trainer sets the same.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch

from attribution.influence.errors import InfluenceError
from attribution.influence.examples import IndexedExample
from attribution.influence.lineage import exact_influences_through
from modelfactory.training.job import Events, Exit, Job, Kind, Stop, alone_in, write_json
from modelfactory.training.train import explain

TOLD = 200  # progress events at most


class _StoppedError(Exception):
    """Told to stop, or the process that asked is gone."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m attribution.influence.exact_job")
    parser.add_argument("folder", type=Path, metavar="JOB_DIR")
    return int(run(parser.parse_args().folder))


def run(folder: Path) -> Exit:
    job, stop = Job.read(folder), Stop()
    events = Events(folder, job.first_sequence)
    try:
        with alone_in(folder):
            _run(folder, job, stop, events)
    except _StoppedError:
        return Exit.STOPPED
    except Exception as error:
        reason = str(error) if isinstance(error, InfluenceError) else explain(error)
        events.emit(Kind.FAILED, step=0, reason=reason, trace=traceback.format_exc())
        return Exit.FAILED
    return Exit.FINISHED


def _run(folder: Path, job: Job, stop: Stop, events: Events) -> None:
    torch.set_num_threads(job.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    asked = json.loads((folder / "answer.json").read_text("utf-8"))
    answer = IndexedExample("answer", "answer", asked["input_ids"], asked["loss_mask"])

    def beat(done: int, total: int) -> None:
        if stop:
            raise _StoppedError
        if done % max(1, total // TOLD) == 0 or done == total:
            events.emit(Kind.PROGRESS, step=done, done=done, total=total)

    found = exact_influences_through(folder, answer, asked["adapter_sha256"], beat)
    result = {"influences": found.influences, "loss": found.loss, "steps": found.steps}
    write_json(folder / "exact.json", result)


if __name__ == "__main__":
    sys.exit(main())
