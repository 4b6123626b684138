"""What one request may ask, how it ends, and that it never disturbs another."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from serving.engine.adapters import WEIGHTS_FILE
from serving.engine.engine import Engine
from serving.engine.row import TokenStream
from serving.engine.scheduler import Scheduler
from serving.engine.types import BadRequest, EngineClosed, EngineError, Finish, UnknownAdapter
from tests.serving.engine.conftest import CONTEXT, name_of, prompt_of, request, tokens_of


def test_it_ends_with_length_at_max_tokens(engine):
    answer = list(engine.generate(request("length", prompt_of(4), max_tokens=5)))
    assert len(answer) == 5
    assert [token.finish_reason for token in answer] == [None] * 4 + [Finish.LENGTH]


def test_it_ends_at_the_end_of_the_context(engine, oracle):
    prompt = prompt_of(CONTEXT - 6)
    answer = tokens_of(engine, request("edge", prompt, max_tokens=500))
    assert answer == oracle(prompt, 6)


def test_it_stops_at_the_end_token(base_folder, tmp_path, oracle):
    prompt = prompt_of(6)
    expected = oracle(prompt, 24)
    folder = shutil.copytree(base_folder, tmp_path / "base")
    config = folder / "config.json"
    config.write_text(
        json.dumps({**json.loads(config.read_text()), "eos_token_id": [expected[5], 399]})
    )
    (folder / "generation_config.json").unlink(missing_ok=True)
    made = Engine(folder)
    try:
        answer = list(made.generate(request("end", prompt)))
    finally:
        made.close()
    place = expected.index(expected[5])
    assert [token.id for token in answer] == expected[: place + 1]
    assert answer[-1].finish_reason == Finish.STOP
    assert answer[-1].text == ""


def test_it_stops_at_a_stop_string_and_does_not_show_it(engine):
    whole = "".join(t.text for t in engine.generate(request("all", prompt_of(8), max_tokens=40)))
    stop = whole[6:9]
    answer = list(engine.generate(request("stop", prompt_of(8), max_tokens=40, stop=(stop,))))
    text = "".join(token.text for token in answer)
    assert answer[-1].finish_reason == Finish.STOP
    assert text == whole[: whole.index(stop)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompt": []}, "empty"),
        ({"prompt": [5] * CONTEXT}, "context"),
        ({"prompt": [100_000]}, "token that the base does not have"),
        ({"prompt": [-1]}, "token that the base does not have"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -3}, "max_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
    ],
)
def test_it_refuses_what_cannot_be_served(engine, change, reason):
    settings = {"prompt": prompt_of(3), **change}
    with pytest.raises(BadRequest, match=reason):
        engine.generate(request("bad", **settings))


def test_it_refuses_an_adapter_that_is_not_loaded(engine):
    with pytest.raises(UnknownAdapter):
        engine.generate(request("unknown", prompt_of(3), adapter="0" * 64))


def test_a_cancelled_request_ends_and_leaves_its_lane_to_others(engine, oracle):
    stream = engine.generate(request("cancel", prompt_of(5), max_tokens=180))
    next(stream)
    engine.cancel("cancel")
    rest = list(stream)
    assert rest[-1].finish_reason == Finish.CANCELLED
    assert rest[-1].id is None
    assert len(rest) < 180
    prompt = prompt_of(9, seed=4)
    assert tokens_of(engine, request("after", prompt)) == oracle(prompt, 24)


def test_it_tells_once_when_the_first_token_is_about_to_come(engine):
    """Who has a note to write before it does so while the token is computed."""
    with engine.generate(request("told", prompt_of(6), max_tokens=3)) as tokens:
        assert tokens.is_about_to_begin()
        assert len(list(tokens)) == 3
    with engine.generate(request("gone", prompt_of(6), max_tokens=3)) as tokens:
        assert len(list(tokens)) == 3  # nobody has to ask


def test_a_request_that_fails_before_its_first_token_never_begins():
    row: Any = SimpleNamespace(out=SimpleQueue())
    row.out.put(EngineError("out of memory"))
    tokens = TokenStream(row, lambda row: None)
    assert not tokens.is_about_to_begin()
    with pytest.raises(EngineError, match="out of memory"):
        next(tokens)


def test_leaving_the_loop_early_cancels(engine):
    with engine.generate(request("left", prompt_of(5), max_tokens=180)) as stream:
        next(stream)
    assert wait_until(lambda: engine.residency().active == 0)


def test_more_requests_than_places_are_all_answered(base_folder, oracle, backend):
    made = Engine(base_folder, max_active=2, backend=backend)
    try:
        prompts = [prompt_of(4 + place, seed=place) for place in range(6)]
        streams = [
            made.generate(request(f"r{place}", prompt, max_tokens=8 + place))
            for place, prompt in enumerate(prompts)
        ]
        assert made.residency().waiting >= 3
        answers = [[token.id for token in stream] for stream in streams]
    finally:
        made.close()
    assert answers == [oracle(prompt, 8 + place) for place, prompt in enumerate(prompts)]


def test_numbers_that_are_not_finite_fail_only_their_own_request(
    base_folder, make_adapter, copied, oracle, backend
):
    made = Engine(base_folder, max_active=3, backend=backend)
    folder = copied(make_adapter(9)[1])
    # Finite weights that overflow while they are multiplied pass validation and fail here.
    tensors = load_file(folder / WEIGHTS_FILE)
    for key, tensor in tensors.items():
        if "lora_B" in key:
            tensor.fill_(3e38)
    save_file(tensors, folder / WEIGHTS_FILE)
    name = name_of(folder)
    made.ensure_adapter(name, folder)
    long, short = prompt_of(20), prompt_of(3, seed=8)
    try:
        first = made.generate(request("well", long, max_tokens=150))
        next(first)
        with pytest.raises(EngineError, match="NaN"):
            list(made.generate(request("ill", prompt_of(40), adapter=name)))
        # In the lane that was left full of NaN, beside a row that reads further than it is long.
        later = tokens_of(made, request("later", short, max_tokens=10))
        rest = [token.id for token in first]
    finally:
        made.close()
    assert later == oracle(short, 10)
    assert rest == oracle(long, 150)[1:]


def test_a_row_that_ends_while_another_prompt_is_taken_in_disturbs_nobody(
    base_folder, oracle, monkeypatch, backend
):
    monkeypatch.setattr("serving.engine.scheduler.PREFILL_BESIDE", 4)
    made = Engine(base_folder, max_active=3, backend=backend)
    asked = [(prompt_of(4, seed=1), 12), (prompt_of(3, seed=2), 40), (prompt_of(80, seed=3), 10)]
    try:
        streams = [
            made.generate(request(f"r{place}", prompt, max_tokens=count))
            for place, (prompt, count) in enumerate(asked)
        ]
        answers = [[token.id for token in stream] for stream in streams]
    finally:
        made.close()
    assert answers == [oracle(prompt, count) for prompt, count in asked]


def test_a_closed_engine_fails_what_runs_and_refuses_more(base_folder):
    made = Engine(base_folder, max_active=1)
    streams = [made.generate(request(f"{n}", prompt_of(3), max_tokens=180)) for n in range(2)]
    made.close()
    for stream in streams:
        with pytest.raises(EngineClosed):
            list(stream)
    with pytest.raises(EngineClosed):
        made.generate(request("late", prompt_of(3)))


def test_the_step_runs_with_the_stated_number_of_threads(base_folder, monkeypatch):
    seen: list[int] = []
    plain = Scheduler.turn

    def spied(self):
        seen.append(torch.get_num_threads())
        plain(self)

    monkeypatch.setattr(Scheduler, "turn", spied)
    for threads in (1, 2):
        made = Engine(base_folder, threads=threads)
        tokens_of(made, request("one", prompt_of(3), max_tokens=2))
        made.close()
        assert set(seen) == {threads}
        seen.clear()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux")
def test_the_step_runs_on_the_stated_core_and_nothing_else_of_the_process_does(
    base_folder, monkeypatch
):
    seen: list[set[int]] = []
    plain, before = Scheduler.turn, os.sched_getaffinity(0)

    def spied(self):
        seen.append(os.sched_getaffinity(0))
        plain(self)

    monkeypatch.setattr(Scheduler, "turn", spied)
    core = max(before)
    made = Engine(base_folder, cpus=frozenset({core}))
    tokens_of(made, request("one", prompt_of(3), max_tokens=2))
    made.close()
    assert {frozenset(one) for one in seen} == {frozenset({core})}
    assert os.sched_getaffinity(0) == before


def wait_until(condition, seconds: float = 5.0) -> bool:
    event = threading.Event()
    for _ in range(int(seconds / 0.01)):
        if condition():
            return True
        event.wait(0.01)
    return False


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_answers_as_the_cpu_does(base_folder: Path, make_adapter, oracle):
    name, folder = make_adapter(12)
    prompt = prompt_of(13)
    made = Engine(base_folder, device="cuda", dtype="float32")
    try:
        made.ensure_adapter(name, folder)
        assert tokens_of(made, request("base", prompt)) == oracle(prompt, 24)
        answer = tokens_of(made, request("tuned", prompt, adapter=name))
        assert answer == oracle(prompt, 24, folder)
    finally:
        made.close()
