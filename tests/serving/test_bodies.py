"""What the OpenAI API takes in a body, and what it refuses with the field that is to blame."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import InvalidRequest
from serving.openai_api.bodies import ChatBody, TextBody, read

SUITE = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "json-test-suite"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
TEXT = {"model": "m", "prompt": "Hello"}


def chat(**changes: object) -> ChatBody:
    body = read(json.dumps({**CHAT, **changes}).encode(), ChatBody)
    body.question()
    body.checked_sampling()
    assert body.choices
    return body


def text(**changes: object) -> TextBody:
    body = read(json.dumps({**TEXT, **changes}).encode(), TextBody)
    body.questions()
    body.checked_sampling()
    return body


def test_a_plain_chat_is_taken_with_the_defaults_of_the_api():
    body = chat()
    assert body.question().messages == [{"role": "user", "content": "Hello"}]
    sampling = body.checked_sampling()
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (1.0, 1.0, None)


def test_parts_of_text_are_joined_and_a_developer_is_a_system():
    body = chat(
        messages=[
            {"role": "developer", "content": "Be short."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            },
        ]
    )
    assert body.question().messages == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "ab"},
    ]


def test_either_name_of_the_limit_counts():
    assert chat(max_tokens=7).checked_sampling().max_tokens == 7
    assert chat(max_completion_tokens=9).checked_sampling().max_tokens == 9


def test_fields_that_only_label_a_request_are_left_aside():
    chat(user="u", metadata={"a": "b"}, store=False, service_tier="auto", parallel_tool_calls=True)


def test_a_null_is_as_good_as_nothing():
    chat(temperature=None, top_p=None, n=None, stop=None, stream=None, tools=None, seed=None)


@pytest.mark.parametrize(
    ("changes", "parameter"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.[0].role"),
        ({"messages": [{"role": "user"}]}, "messages.[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages.[0].content",
        ),
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -5}, "max_tokens"),
        ({"max_tokens": "ten"}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.01}, "top_p"),
        ({"n": 17}, "n"),
        ({"n": 0}, "n"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stop": 3}, "stop"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"tools": [{"type": "function"}] * 65}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": [1]}}},
            "response_format",
        ),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"five": 1}}, "logit_bias"),
        ({"logit_bias": {str(token): 1 for token in range(301)}}, "logit_bias"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"frequency_penalty": -3}, "frequency_penalty"),
        ({"min_p": 1.5}, "min_p"),
        ({"top_k": -2}, "top_k"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ],
)
def test_what_a_chat_may_not_ask_is_refused_by_name(changes, parameter):
    with pytest.raises(InvalidRequest) as refused:
        chat(**changes)
    assert refused.value.parameter == parameter


def test_a_text_may_be_text_or_tokens_alone_or_in_a_list_of_one():
    assert text().question().text == "Hello"
    assert text(prompt=["Hello"]).question().text == "Hello"
    assert text(prompt=[1, 2, 3]).question().token_ids == [1, 2, 3]
    assert text(prompt=[[1, 2, 3]]).question().token_ids == [1, 2, 3]
    assert text(prompt=[7]).question().token_ids == [7]


def test_several_prompts_are_several_questions():
    assert [one.text for one in text(prompt=["a", "b"]).questions()] == ["a", "b"]
    assert [one.token_ids for one in text(prompt=[[1], [2, 3]]).questions()] == [[1], [2, 3]]


def test_how_tokens_are_drawn_is_read_with_every_setting():
    sampling = chat(
        top_k=-1,
        min_p=0.1,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        repetition_penalty=1.1,
        logit_bias={"5": -100},
        logprobs=True,
        top_logprobs=3,
        n=4,
    ).checked_sampling()
    assert (sampling.top_k, sampling.min_p, sampling.logprobs) == (0, 0.1, 3)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.5, -0.5)
    assert (sampling.repetition_penalty, sampling.logit_bias) == (1.1, {5: -100.0})
    assert text(logprobs=0, echo=True).checked_sampling().logprobs == 0


def test_tools_and_what_they_said_are_passed_on():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    question = chat(
        tools=[{"type": "function", "function": {"name": "f"}}],
        messages=[
            {"role": "user", "content": "Do f."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "done"},
        ],
    ).question()
    assert question.tools[0]["function"]["name"] == "f"
    assert question.messages[1] == {"role": "assistant", "content": "", "tool_calls": [call]}
    assert question.messages[2] == {"role": "tool", "content": "done", "tool_call_id": "c"}


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": []},
        {"prompt": ["a"] * 17},
        {"prompt": ["a", 1]},
        {"prompt": None},
        {"suffix": "x"},
        {"best_of": 3},
        {"logprobs": 21},
        {"logprobs": -1},
    ],
)
def test_what_a_text_may_not_ask_is_refused(changes):
    with pytest.raises(InvalidRequest):
        text(**changes)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"model": "m"}',
        b'{"model": "\xff", "messages": []}',
        b'{"model": "\\ud800", "messages": []}',
        b"[" * 100_000,
        b'{"model": "m", "messages": ' + b"[" * 100_000,
        b'{"model": "m", "x": ' + b"[" * 50 + b"]" * 50 + b', "messages": []}',
        b'{"model": "m", "messages": [], "x": "' + b"a" * 1_000_001 + b'"}',
    ],
    ids=range(11),
)
def test_a_broken_or_hostile_body_is_refused(raw):
    with pytest.raises(InvalidRequest):
        read(raw, ChatBody).question()


@pytest.mark.parametrize("raw", [b"\\u0000", b"a\\\\\\u0000"], ids=["alone", "behind a backslash"])
def test_a_character_that_the_database_cannot_keep_is_refused(raw):
    with pytest.raises(InvalidRequest, match=r"U\+0000"):
        read(b'{"model": "m", "prompt": "' + raw + b'"}', TextBody)


def test_the_spelling_of_that_character_is_no_such_character():
    assert text(prompt="\\u0000").questions()[0].text == "\\u0000"


def test_brackets_inside_a_string_are_no_nesting():
    chat(messages=[{"role": "user", "content": "[" * 5_000 + '"' + "{" * 5_000}])


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw):
    with contextlib.suppress(InvalidRequest):
        read(raw, ChatBody)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = [*ChatBody.__struct_fields__, "surprise"]


@given(st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=4))
def test_any_fields_are_taken_or_refused(changes):
    with contextlib.suppress(InvalidRequest):
        chat(**changes)


def test_the_json_test_suite_is_read_or_refused():
    if not SUITE.is_dir():
        pytest.skip("the JSON test suite is not beside the repository")
    files = sorted(SUITE.rglob("*.json"))
    assert len(files) > 100
    for file in files:
        with contextlib.suppress(InvalidRequest):
            read(b'{"model": "m", "messages": [], "x": ' + file.read_bytes() + b"}", ChatBody)
