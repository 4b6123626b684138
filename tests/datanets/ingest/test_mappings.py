"""Columns are detected by name and applied to the letter; every refusal names its column."""

from pathlib import Path

import pytest

from datanets.ingest.faults import ValueFault
from datanets.ingest.mapping import Mapping, Shape, contributor_of, detect, payload_of

from .helpers import codes, run, run_detected, shared, write

LIMIT = 10_000


@pytest.mark.parametrize(
    ("columns", "shape"),
    [
        (["question", "answer", "type"], "question_answer"),
        (["Prompt", "Completion"], "question_answer"),
        (["input", "output"], "question_answer"),
        (["instruction", "input", "output"], "instruction"),
        (["instruction", "response"], "instruction"),
        (["id", "messages"], "messages"),
        (["conversations", "system"], "messages"),
        (["text", "url"], "text"),
        (["anything"], "text"),
    ],
)
def test_the_usual_names_are_known(columns: list[str], shape: str) -> None:
    found = detect(columns)
    assert found is not None
    assert found.shape == shape
    found.require_columns(columns)


def test_what_is_not_known_is_asked() -> None:
    assert detect(["a1", "b2"]) is None


def test_input_follows_the_instruction() -> None:
    mapping = Mapping(shape=Shape.INSTRUCTION, instruction="i", input="n", output="o", system="s")
    values = {"i": "Add", "n": "1 2", "o": "3", "s": "Count."}
    assert payload_of(mapping, values, text_chars=LIMIT) == {
        "messages": [
            {"role": "system", "content": "Count."},
            {"role": "user", "content": "Add\n\n1 2"},
            {"role": "assistant", "content": "3"},
        ]
    }
    without = payload_of(mapping, {**values, "n": "", "s": None}, text_chars=LIMIT)
    assert without["messages"][0] == {"role": "user", "content": "Add"}


def turns(*roles: str) -> list[dict[str, str]]:
    return [{"from": role, "value": f"{role} says"} for role in roles]


@pytest.mark.parametrize(
    ("value", "code", "column"),
    [
        ("hello", "MESSAGES", "m"),
        ([], "MESSAGES", "m"),
        (["hello"], "MESSAGES", "m[1]"),
        (turns("human", "function"), "ROLE", "m[2]"),
        ([{"value": "x"}], "ROLE", "m[1]"),
        (turns("gpt", "human"), "ORDER", "m"),
        (turns("human", "human"), "ORDER", "m"),
        (turns("human", "system", "gpt"), "ORDER", "m"),
        (turns("human"), "NO_ANSWER", "m"),
        (turns("system"), "NO_ANSWER", "m"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "MEDIA", "m[1]"),
        ([{"role": "user", "content": "  "}], "BLANK", "m[1]"),
        ("[" * 5_000, "DEPTH", ""),
    ],
)
def test_a_conversation_that_teaches_nothing_is_refused(
    value: object, code: str, column: str
) -> None:
    mapping = Mapping(shape=Shape.MESSAGES, messages="m")
    with pytest.raises(ValueFault) as caught:
        payload_of(mapping, {"m": value}, text_chars=LIMIT)
    assert (caught.value.code, caught.value.column) == (code, column)


@pytest.mark.parametrize(("value", "name"), [("  Ann   Lee ", "Ann Lee"), (7, "7")])
def test_a_contributor_is_named_by_its_column(value: object, name: str) -> None:
    mapping = Mapping(shape=Shape.TEXT, text="t", contributor="by")
    assert contributor_of(mapping, {"by": value}) == name


@pytest.mark.parametrize("value", [None, "", True, ["x"], "n" * 201])
def test_a_row_without_its_contributor_is_refused(value: object) -> None:
    mapping = Mapping(shape=Shape.TEXT, text="t", contributor="by")
    with pytest.raises(ValueFault) as caught:
        contributor_of(mapping, {"by": value})
    assert caught.value.column == "by"


def test_a_mapping_must_be_complete_and_fit_the_file() -> None:
    with pytest.raises(ValueFault):
        Mapping.from_dict({"shape": "poem"})
    with pytest.raises(ValueFault) as caught:
        Mapping.from_dict({"shape": "question_answer", "question": "q"})
    assert caught.value.column == "answer"
    with pytest.raises(ValueFault):
        Mapping.from_dict({"shape": "text", "text": "body"}).require_columns(["text"])


def test_a_mapping_survives_being_stored() -> None:
    mapping = Mapping(shape=Shape.TEXT, text="body", contributor="by")
    assert Mapping.from_dict(mapping.as_dict()) == mapping


@pytest.mark.parametrize(
    ("name", "good", "refused"),
    [
        ("alpaca_en_demo.json", 985, {"DUPLICATE"}),
        ("c4_demo.jsonl", 300, set()),
        ("dpo_en_demo.json", 0, {"NO_ANSWER"}),
        ("mllm_demo.json", 0, {"MEDIA"}),
        ("mllm_audio_demo.json", 0, {"MEDIA"}),
    ],
)
def test_the_shapes_that_people_upload(name: str, good: int, refused: set[str]) -> None:
    found, faults = run_detected(shared(f"data/formats/{name}"))
    assert len(found) == good
    assert {fault.code for fault in faults} == refused


def test_copies_are_found_whatever_the_key_order(tmp_path: Path) -> None:
    text = '{"question":"a","answer":"b"}\n{"answer":"b","x":1,"question":"a"}\n'
    text += '{"question":"a","answer":"b "}\n'
    good, bad = run(write(tmp_path, "a.jsonl", text))
    assert [item.row for item in good] == [1, 3]
    assert codes(bad) == [(2, "", "DUPLICATE")]
    assert "row 1" in bad[0].message
