"""The benchmark for a GPU runs here from end to end, so that it is ready where there is one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.serving import gpu
from bench.serving.tape import Tape

TINY = [
    "--shape", "tiny", "--device", "cpu", "--batches", "3", "--resident", "4", "--checked", "4",
    "--rounds", "1", "--pairs", "1",
]  # fmt: skip


def test_it_compares_then_times_every_peer_and_names_the_machine(tmp_path):
    file = tmp_path / "out.json"
    subprocess.run(
        [sys.executable, "-m", "bench.serving.gpu", *TINY, "--json", str(file)],
        check=True,
        timeout=250,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    told = json.loads(file.read_text())
    names = [one["name"] for one in told["figures"]]
    for ratio in (
        "engine, base / transformers, base",
        "engine, adapters / engine, base",
        "engine, adapters / transformers, base",
        "engine, adapters / PEFT mixed",
        "engine, base / engine, base, no graphs",
        "engine, adapters / engine, adapters, no graphs",
    ):
        assert f"batch 3: {ratio}" in names
    assert "base rows, 4 adapters resident / feature off" in names
    assert "swap-in: onto the device" in names
    assert "batch 1 / that" in names
    assert told["holds"] is True
    assert told["machine"]["cpu"]
    assert told["machine"]["device"]


class Stale(Tape):
    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        super().capture(work)
        return lambda: None


def test_it_times_nothing_where_the_engine_says_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "Tape", Stale)
    monkeypatch.setattr(gpu, "has_triton", lambda: False)
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # so that it is put back
    file = tmp_path / "out.json"
    assert gpu.main([*TINY, "--json", str(file)]) == 1
    told = json.loads(file.read_text())["figures"]
    wrong = [one["name"] for one in told if one["holds"] is False]
    assert "batch 3: engine, adapters, rows with other tokens" in wrong
    assert [one for one in told if one["unit"] == "tokens/s"] == []


def test_its_models_share_one_copy_of_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    house = gpu.House(tmp_path, gpu.options_of(TINY))
    house.make()
    house.load()
    mine = dict(house.copy().named_parameters())
    assert all(mine[name] is one for name, one in house.model.named_parameters())
