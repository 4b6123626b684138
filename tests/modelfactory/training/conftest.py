"""Jobs on a base model so small that a training takes a second."""

import json
from pathlib import Path
from typing import Any

import pytest

from modelfactory.training.job import Job

STARTER = Path(__file__).resolve().parents[3] / "modelfactory" / "starter"
COLOURS = ["red", "blue", "green", "grey", "white", "black", "brown"]


def payload(number: int) -> dict[str, Any]:
    colour = COLOURS[number % len(COLOURS)]
    return {
        "messages": [
            {"role": "user", "content": f"What colour is door {number}?"},
            {"role": "assistant", "content": f"Door {number} is {colour}." * (1 + number % 3)},
        ]
    }


@pytest.fixture
def make_job(tiny_base: Path, tmp_path: Path):
    """Write a job folder: `make_job("a", records=20, epochs=2)`."""

    def make(name: str = "job", records: int = 20, **recipe: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        with (folder / "records.jsonl").open("w") as out:
            for number in range(records):
                line = {"record": f"record-{number}", "payload": payload(number)}
                out.write(json.dumps(line) + "\n")
        wanted = {"batch_size": 4, "cutoff": 64, "epochs": 1, "rank": 2, **recipe}
        Job(
            base_folder=str(tiny_base),
            base_name="openledger/tiny",
            recipe=wanted,
            samples=2,
            answer_tokens=4,
        ).write(folder)
        return folder

    return make
