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
    return body


def text(**changes: object) -> TextBody:
    body = read(json.dumps({**TEXT, **changes}).encode(), TextBody)
    body.question()
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
        ({"n": 2}, "n"),
        ({"n": 0}, "n"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stop": 3}, "stop"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
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


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": ["a", "b"]},
        {"prompt": [[1], [2]]},
        {"prompt": None},
        {"echo": True},
        {"suffix": "x"},
        {"best_of": 3},
        {"logprobs": 0},
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
