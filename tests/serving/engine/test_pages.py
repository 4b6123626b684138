"""Prompts that begin alike are computed once, for one owner and one adapter; room is never lost."""

from __future__ import annotations

import random

import pytest

from serving.engine.engine import Engine
from serving.engine.pages import Pages, names_of
from tests.serving.engine.conftest import prompt_of, request, tokens_of


@pytest.fixture
def made(base_folder, backend):
    engine = Engine(base_folder, max_active=3, backend=backend)
    yield engine
    engine.close()


def cached(engine: Engine, name: str, prompt: list[int], **options: object) -> tuple[int, list]:
    with engine.generate(request(name, prompt, **options)) as stream:
        answer = [token.id for token in stream]
        return stream.cached_tokens, answer


def test_the_second_prompt_starts_behind_what_the_first_left(made, oracle):
    start = prompt_of(50, seed=3)
    first = cached(made, "first", start, owner="ada", max_tokens=30)
    again = cached(made, "again", start + first[1][:20] + [9], owner="ada")
    # 50 + 20 tokens are four whole pages of 16.
    assert (first[0], again[0]) == (0, 64)
    assert again[1] == oracle(start + first[1][:20] + [9], 24)


def test_a_whole_prompt_that_is_there_still_computes_its_last_token(made, oracle):
    prompt = prompt_of(48, seed=4)
    first, again = (cached(made, name, prompt, owner="ada") for name in ("one", "two"))
    assert again == (32, first[1])
    assert first[1] == oracle(prompt, 24)


def test_another_owner_or_another_adapter_shares_nothing(made, make_adapter, oracle):
    name, folder = make_adapter(41)
    made.ensure_adapter(name, folder)
    prompt = prompt_of(50, seed=5)
    assert cached(made, "one", prompt, owner="ada")[0] == 0
    assert cached(made, "two", prompt, owner="bob")[0] == 0
    tuned = cached(made, "three", prompt, owner="ada", adapter=name)
    assert tuned == (0, oracle(prompt, 24, folder))


def test_a_failed_row_leaves_nothing_behind(base_folder, monkeypatch, oracle, backend):
    made = Engine(base_folder, max_active=2, backend=backend)
    prompt = prompt_of(40, seed=6)
    plain = made.backend.forward
    try:
        monkeypatch.setattr(made.backend, "forward", lambda batch: plain(batch) * float("nan"))
        with pytest.raises(Exception, match="NaN"):
            tokens_of(made, request("ill", prompt))
        monkeypatch.undo()
        assert cached(made, "well", prompt) == (0, oracle(prompt, 24))
        assert made.residency().cache_bytes == 0
    finally:
        made.close()


def test_requests_wait_while_the_memory_for_keys_and_values_is_full(base_folder, backend, oracle):
    # One row of the whole context fits, however little is allowed.
    made = Engine(base_folder, max_active=8, backend=backend, cache_bytes=1)
    try:
        prompts = [prompt_of(60, seed=seed) for seed in range(4)]
        streams = [
            made.generate(request(f"r{place}", prompt, max_tokens=60))
            for place, prompt in enumerate(prompts)
        ]
        answers = [[token.id for token in stream] for stream in streams]
    finally:
        made.close()
    assert answers == [oracle(prompt, 60) for prompt in prompts]


def test_pages_are_never_lost_or_given_twice():
    """A thousand random rows: each page is free, kept or its rows' alone, and shared ones agree."""
    draw = random.Random(7)
    pages = Pages(24, 4)
    running: list[tuple[list[int], list[bytes], int]] = []
    for _ in range(1_000):
        if running and draw.random() < 0.5:
            held, names, computed = running.pop(draw.randrange(len(running)))
            pages.name(held, names[:computed])
            pages.end(held)
        else:
            tokens = [draw.randrange(2) for _ in range(draw.randrange(1, 40))]
            names = names_of(tokens, 4, owner=draw.choice("ab"), adapter=None)
            given = pages.begin(names, len(tokens) + 3, len(tokens))
            if given is not None:
                running.append((given[0], names, draw.randrange(len(names) + 1)))
        users: dict[int, int] = {}
        for held, _, _ in running:
            assert len(set(held)) == len(held)
            for page in held:
                users[page] = users.get(page, 0) + 1
        assert pages.used == len(users)
        assert all(pages._users[page] == count for page, count in users.items())
    for held, _, _ in running:
        pages.end(held)
    assert pages.used == 0
    assert pages.begin([], 96, 96) is not None
