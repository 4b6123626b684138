"""Parquet: what it claims is checked before it is unpacked."""

from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datanets.ingest.faults import FileFault

from .helpers import QA, codes, run, run_detected, write


def table(path: Path, **columns: list[object]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_rows_are_read_whatever_stands_beside_them(tmp_path: Path) -> None:
    path = table(
        tmp_path / "a.parquet",
        question=["a", "b", None],
        answer=["x", "", "z"],
        score=[1.5, float("nan"), None],
        at=[datetime(2026, 1, 1)] * 3,
    )
    good, bad = run(path)
    assert [item.row for item in good] == [1]
    assert codes(bad) == [(2, "answer", "BLANK"), (3, "question", "MISSING")]
    assert bad[0].raw["score"] == "nan"


def test_a_list_of_turns_is_a_conversation(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]
    good, bad = run_detected(table(tmp_path / "a.parquet", conversations=[turns]))
    assert bad == []
    assert good[0].payload["messages"][1] == {"role": "assistant", "content": "Ho"}


@pytest.mark.parametrize("content", [b"PAR1", b"PAR1" + b"\0" * 200 + b"PAR1", b"PAR1x" * 900])
def test_a_broken_file_says_so(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(FileFault) as caught:
        run(write(tmp_path, "a.parquet", content))
    assert caught.value.code == "PARQUET"


@pytest.mark.parametrize("at", [0.2, 0.5, 0.8, 0.99])
def test_a_cut_or_changed_file_never_crashes(tmp_path: Path, at: float) -> None:
    path = table(tmp_path / "a.parquet", question=["q" * 50] * 500, answer=["a"] * 500)
    content = bytearray(path.read_bytes())
    spot = int(len(content) * at)
    for index in range(spot, min(spot + 8, len(content) - 8)):
        content[index] ^= 0xFF
    for damaged in (bytes(content), bytes(content[:spot])):
        with suppress(FileFault):
            run(write(tmp_path, "b.parquet", damaged))


def test_a_bomb_is_refused_unopened(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    columns = {f"c{n}": [f"{n}-{i}-" + "x" * 1_000 for i in range(2_000)] for n in range(40)}
    pq.write_table(pa.table(columns), path, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 2_000_000
    with pytest.raises(FileFault) as caught:
        run(path, QA, file_bytes=path.stat().st_size)
    assert caught.value.code == "EXPANSION"


def test_another_file_with_the_ending_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileFault) as caught:
        run(write(tmp_path, "a.parquet", '{"question": "a"}'))
    assert caught.value.code == "FORMAT"
    with pytest.raises(FileFault) as caught:
        run(table(tmp_path / "a.csv", question=["a"]))
    assert ".parquet" in caught.value.message
