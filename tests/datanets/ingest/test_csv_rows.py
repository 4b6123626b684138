"""CSV: quotes, delimiters, widths and headers, each fault with its row."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datanets.ingest.faults import FileFault

from .helpers import codes, run, write


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    text = f'question{delimiter}answer\n"a{delimiter}b"{delimiter}c\n'
    good, _ = run(write(tmp_path, "a.csv", text))
    assert good[0].payload["messages"][0]["content"] == f"a{delimiter}b"


def test_rows_count_from_the_first_under_the_header(tmp_path: Path) -> None:
    text = 'question,answer\n"two\nlines",x\nq,\nq,a,b\n\nz,y\n'
    good, bad = run(write(tmp_path, "a.csv", text))
    assert [item.row for item in good] == [1, 4]
    assert codes(bad) == [(2, "answer", "BLANK"), (3, "", "FIELDS")]
    assert "line 5" in bad[1].message


def test_an_unclosed_quote_keeps_the_rows_before_it(tmp_path: Path) -> None:
    good, bad = run(write(tmp_path, "a.csv", 'question,answer\na,b\nc,"d\ne,f\n'))
    assert [item.row for item in good] == [1]
    assert codes(bad) == [(2, "", "CSV")]
    assert "line 3" in bad[0].message


def test_a_row_without_end_is_given_up(tmp_path: Path) -> None:
    text = 'question,answer\na,b\nc,"' + "d\n" * 20_000
    good, bad = run(write(tmp_path, "a.csv", text), row_bytes=1_000)
    assert ([item.row for item in good], codes(bad)) == ([1], [(2, "", "CSV")])


def test_a_long_row_costs_itself_alone(tmp_path: Path) -> None:
    text = f"question,answer\na,{'b' * 3_000}\nc,d\n"
    good, bad = run(write(tmp_path, "a.csv", text), row_bytes=1_000)
    assert ([item.row for item in good], codes(bad)) == ([2], [(1, "", "ROW_TOO_LARGE")])


@pytest.mark.parametrize(
    ("header", "code"),
    [("question,question", "HEADER"), ("question,,answer", "HEADER"), ("a,b,c,d,e,f", "COLUMNS")],
)
def test_a_header_that_cannot_be_used_is_said(tmp_path: Path, header: str, code: str) -> None:
    with pytest.raises(FileFault) as caught:
        run(write(tmp_path, "a.csv", f"{header}\n1,2\n"), columns=5)
    assert caught.value.code == code


def test_a_conversation_may_stand_in_a_cell_as_json(tmp_path: Path) -> None:
    from .helpers import run_detected

    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    cell = json.dumps(turns).replace('"', '""')
    good, bad = run_detected(write(tmp_path, "a.csv", f'messages,x\n"{cell}",1\n'))
    assert bad == []
    assert [turn["content"] for turn in good[0].payload["messages"]] == ["Hi", "Ho"]


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@given(st.lists(st.tuples(text, text), min_size=1, max_size=8, unique=True))
def test_what_the_standard_library_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]
) -> None:
    stream = io.StringIO()
    csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([("question", "answer"), *pairs])
    path = write(tmp_path_factory.mktemp("csv"), "a.csv", stream.getvalue())
    good, bad = run(path)
    read = {tuple(turn["content"] for turn in item.payload["messages"]) for item in good}
    assert read == {(q, a) for q, a in pairs if q.strip() and a.strip()}
    assert {fault.code for fault in bad} <= {"BLANK"}
