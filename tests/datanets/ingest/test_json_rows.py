"""JSON Lines and JSON arrays: every bad row is named, every good row is kept, nothing crashes."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datanets.ingest import jsontext
from datanets.ingest.faults import FileFault, ValueFault

from .helpers import TEXT, codes, lines, run, shared, write

GOOD = {"question": "Why?", "answer": "Because."}


def vectors() -> list[Path]:
    folder = Path(__file__).resolve().parents[3].parent / "shared/vectors/json-test-suite"
    return sorted((folder / "test_parsing").glob("*.json"))


@pytest.mark.skipif(not vectors(), reason="shared vectors are absent")
@pytest.mark.parametrize("path", vectors(), ids=lambda path: path.stem)
def test_json_test_suite(path: Path) -> None:
    try:
        jsontext.decode(path.read_bytes(), depth=600)
        accepted = True
    except ValueFault:
        accepted = False
    if path.name[0] in "yn":
        assert accepted == (path.name[0] == "y")


def test_good_rows_stand_between_bad_ones(tmp_path: Path) -> None:
    text = lines(GOOD) + "{oops\n\n" + lines([1], {"question": "x"}, {**GOOD, "answer": 5})
    text += lines({"question": " ", "answer": "y"}) + json.dumps({"question": "q", "answer": "a"})
    good, bad = run(write(tmp_path, "a.jsonl", text))
    assert [item.row for item in good] == [1, 8]
    assert codes(bad) == [
        (2, "", "JSON"),
        (4, "", "NOT_AN_OBJECT"),
        (5, "answer", "MISSING"),
        (6, "answer", "NOT_TEXT"),
        (7, "question", "BLANK"),
    ]
    assert all(fault.message.endswith(".") for fault in bad)


@pytest.mark.parametrize("bracket", ["[", "{", '{"a":', '[{"a":'])
def test_brackets_without_end_cost_one_row(tmp_path: Path, bracket: str) -> None:
    deep = (bracket * 100_000)[:100_000]
    good, bad = run(write(tmp_path, "a.jsonl", f"{deep}\n{lines(GOOD)}"))
    assert [item.row for item in good] == [2]
    assert codes(bad) == [(1, "", "DEPTH")]


def test_closed_brackets_in_an_array_cost_one_row(tmp_path: Path) -> None:
    deep = "[" * 50_000 + "]" * 50_000
    text = f"[{json.dumps(GOOD)}, {deep}, {json.dumps({**GOOD, 'answer': 'b'})}]"
    good, bad = run(write(tmp_path, "a.json", text))
    assert [item.row for item in good] == [1, 3]
    assert codes(bad) == [(2, "", "DEPTH")]


def test_brackets_inside_text_are_no_depth(tmp_path: Path) -> None:
    row = {"question": "[" * 5_000, "answer": '{"' * 5_000}
    assert len(run(write(tmp_path, "a.jsonl", lines(row)))[0]) == 1


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_lacks_are_refused(tmp_path: Path, value: str) -> None:
    text = '{"question": "a", "answer": "b", "score": ' + value + "}\n"
    _, bad = run(write(tmp_path, "a.jsonl", text))
    assert codes(bad) == [(1, "", "JSON")]


def test_a_zero_character_is_refused_since_no_database_holds_it(tmp_path: Path) -> None:
    _, bad = run(write(tmp_path, "a.jsonl", lines({"question": "a\0", "answer": "b"})))
    assert codes(bad) == [(1, "question", "ZERO_CHARACTER")]


def test_a_row_over_the_limit_is_skipped_to_its_end(tmp_path: Path) -> None:
    text = lines({"question": "x" * 5_000, "answer": "y"}, GOOD)
    good, bad = run(write(tmp_path, "a.jsonl", text), row_bytes=1_000)
    assert [item.row for item in good] == [2]
    assert codes(bad) == [(1, "", "ROW_TOO_LARGE")]


def test_too_many_columns_are_refused(tmp_path: Path) -> None:
    row = {f"c{number}": "x" for number in range(11)}
    _, bad = run(write(tmp_path, "a.jsonl", lines(row)), columns=10)
    assert codes(bad) == [(1, "", "COLUMNS")]


def test_too_many_rows_end_the_reading_with_the_good_ones_given(tmp_path: Path) -> None:
    from datanets.ingest.check import check
    from datanets.ingest.limits import Limits

    path = write(tmp_path, "a.jsonl", lines(*({"text": f"t{n}"} for n in range(5))))
    items = check(path, path.name, TEXT, limits=Limits(rows=3))
    assert [next(items).row for _ in range(3)] == [1, 2, 3]
    with pytest.raises(FileFault) as caught:
        next(items)
    assert caught.value.code == "ROWS"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "EMPTY"),
        ("  \n\t ", "EMPTY"),
        ("\ufeff", "EMPTY"),
        ('"text"', "NOT_AN_ARRAY"),
        ('{\n "question": "a"\n}', "NOT_AN_ARRAY"),
        ('[{"question": "a", "answer": "b"}', "TRUNCATED"),
        ('[{"question": "a', "TRUNCATED"),
        ('[{"question": "a", "answer": "b"}] [1]', "TRAILING"),
        ("%PDF-1.7", "FORMAT"),
    ],
)
def test_what_is_no_array_says_so(tmp_path: Path, text: str, code: str) -> None:
    with pytest.raises(FileFault) as caught:
        run(write(tmp_path, "a.json", text))
    assert caught.value.code == code


def test_an_empty_array_has_no_rows(tmp_path: Path) -> None:
    assert run(write(tmp_path, "a.json", "[ ]")) == ([], [])


def test_one_object_a_line_may_be_called_json(tmp_path: Path) -> None:
    assert len(run(write(tmp_path, "a.json", lines(GOOD)))[0]) == 1


@given(
    st.lists(
        st.dictionaries(
            st.text(max_size=8),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.text(),
                lambda inner: st.lists(inner, max_size=3),
                max_leaves=6,
            ),
            max_size=4,
        ),
        max_size=8,
    ),
    st.sampled_from([None, 1, "\t"]),
    st.booleans(),
)
def test_any_array_is_read_as_the_standard_library_reads_it(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, object]],
    indent: int | str | None,
    ascii_only: bool,
) -> None:
    from datanets.ingest.files import read
    from datanets.ingest.limits import Limits
    from datanets.ingest.rows import Row

    text = json.dumps(rows, indent=indent, ensure_ascii=ascii_only)
    path = write(tmp_path_factory.mktemp("arrays"), "a.json", text)
    expected = [Row(number, row) for number, row in enumerate(json.loads(text), start=1)]
    assert list(read(path, path.name, Limits(columns=10))) == expected


@given(st.binary(max_size=400), st.sampled_from([".jsonl", ".json", ".csv", ".parquet"]))
def test_no_bytes_make_it_crash(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, ending: str
) -> None:
    path = write(tmp_path_factory.mktemp("bytes"), f"a{ending}", content)
    with suppress(FileFault):
        run(path)


def test_medquad_is_clean() -> None:
    from .helpers import run_detected

    good, bad = run_detected(shared("data/medquad/ninds.jsonl"))
    assert (len(good), bad) == (1_088, [])
    assert len({item.content_hash for item in good}) == 1_088


def test_brackets_end_no_process_whose_recursion_limit_was_raised() -> None:
    """Some libraries raise the limit to 100,000 on import; a decoder then overruns the stack."""
    code = (
        "import sys; sys.setrecursionlimit(1_000_000)\n"
        "from datanets.ingest import jsontext\n"
        "from datanets.ingest.faults import ValueFault\n"
        "for text in (b'[' * 100_000 + b']' * 100_000, b'{\"a\":' * 100_000):\n"
        "    try: jsontext.decode(text, depth=32)\n"
        "    except ValueFault as fault: assert fault.code == 'DEPTH'\n"
        "    else: raise SystemExit(3)\n"
    )
    folder = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, check=False)
    assert done.returncode == 0
