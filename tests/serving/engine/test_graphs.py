"""Replayed steps say what the steps say that they were captured from, whatever comes between."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.serving.tape import ByAddress, Tape
from serving.engine import choosing, graph_trial, graphs
from serving.engine.base import load_base
from serving.engine.engine import Engine
from serving.engine.module import ModuleBackend
from serving.engine.types import Finish
from tests.serving.engine.conftest import prompt_of, request, tokens_of


class Rerun:
    """Only runs the work again, on whatever lies in the buffers."""

    bytes = 0

    def __init__(self) -> None:
        self.replays = 0

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        def replay() -> None:
            self.replays += 1
            work()

        return replay


class Refusing(Tape):
    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing")


EngineMaker = Callable[..., Engine]


@pytest.fixture
def engine_with(base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineMaker]:
    """An engine that captures with what it is given and takes any capture that is right."""
    made: list[Engine] = []

    def make(capture: Any, *, kernel: Any = None, trial: bool = False, **options: Any) -> Engine:
        monkeypatch.setattr(choosing, "capture_of", lambda device: capture)
        monkeypatch.setattr(choosing.lora_triton, "chosen", lambda device, dtype: kernel)
        if not trial:
            monkeypatch.setattr(graph_trial, "settle", lambda backend: None)
        options = {"max_active": 6, "backend": "transformers", **options}
        made.append(Engine(base_folder, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_replayed_base_answers_as_in_transformers(engine_with, oracle):
    tape = Tape()
    engine = engine_with(tape)
    prompt = prompt_of(11)
    assert tokens_of(engine, request("q", prompt, max_tokens=64)) == oracle(prompt, 64)
    assert tape.captures == 1
    assert tape.replays == 63  # the first token comes with the prompt
    assert engine.residency().graphs == 1


@pytest.mark.parametrize("kind", [Rerun, Tape])
def test_rows_that_come_and_go_with_their_adapters_answer_as_without_graphs(
    engine_with, make_adapter, kind
):
    """More rows than fit, of lengths, ranks and layers of their own, with a base among them."""
    made = [
        make_adapter(31, 3),
        make_adapter(32, 8, target_modules=["q_proj", "down_proj"]),
        make_adapter(33, 17),
    ]
    names = [None, *(name for name, _ in made)]
    wanted = [
        request(
            f"row {place}",
            prompt_of(3 + 5 * place, seed=place),
            adapter=names[place % 4],
            max_tokens=5 + 11 * (place % 4),
        )
        for place in range(16)
    ]
    answers = []
    capture = kind()
    for engine in (engine_with(None), engine_with(capture, kernel=ByAddress())):
        for name, folder in made:
            engine.ensure_adapter(name, folder)
        with ThreadPoolExecutor(16) as threads:
            answers.append(list(threads.map(lambda one, e=engine: tokens_of(e, one), wanted)))
    assert answers[1] == answers[0]
    assert capture.replays > 50


def test_an_adapter_that_takes_anothers_place_between_two_replays_is_the_one_that_is_read(
    engine_with, make_adapter, oracle
):
    tape = Tape()
    engine = engine_with(tape, kernel=ByAddress(), max_adapters=1)
    prompt = prompt_of(9)
    captures = 0
    for seed in (41, 42, 41, 43):  # each drops the one before
        name, folder = make_adapter(seed)
        engine.ensure_adapter(name, folder)
        gc.collect()
        assert engine.residency().adapters == 1
        assert tokens_of(engine, request("q", prompt, adapter=name)) == oracle(prompt, 24, folder)
        captures = captures or tape.captures
    assert tape.captures == captures == 1


def test_one_that_is_dropped_while_its_row_runs_is_read_to_the_end(
    engine_with, make_adapter, oracle
):
    engine = engine_with(Tape(), kernel=ByAddress(), max_adapters=1)
    (name, folder), (other, beside) = make_adapter(44), make_adapter(45)
    prompt = prompt_of(9)
    engine.ensure_adapter(name, folder)
    with engine.generate(request("first", prompt, adapter=name, max_tokens=120)) as tokens:
        got = [next(tokens).id]
        engine.ensure_adapter(other, beside)
        gc.collect()
        assert tokens_of(engine, request("q", prompt, adapter=other)) == oracle(prompt, 24, beside)
        got += [token.id for token in tokens]
    assert got == oracle(prompt, 120, folder)


def test_a_cancelled_row_leaves_the_others_as_they_are(engine_with, make_adapter, oracle):
    engine = engine_with(Tape(), kernel=ByAddress())
    name, folder = make_adapter(46)
    engine.ensure_adapter(name, folder)
    prompt = prompt_of(9)
    with (
        engine.generate(request("goes", prompt, adapter=name, max_tokens=150)) as goes,
        engine.generate(request("stays", prompt, max_tokens=100)) as stays,
    ):
        got = [next(stays).id]
        next(goes)
        engine.cancel("goes")
        assert list(goes)[-1].finish_reason is Finish.CANCELLED
        got += [token.id for token in stays]
    assert got == oracle(prompt, 100)


def test_settings_that_change_logits_and_seeds_go_on_outside(engine_with):
    wanted = request(
        "q", prompt_of(9), temperature=0.9, seed=7, logit_bias={30: 4.0}, repetition_penalty=1.3,
        logprobs=2,
    )  # fmt: skip
    answers = [
        [(token.id, token.logprob.id) for token in engine_with(capture).generate(wanted)]
        for capture in (None, Tape())
    ]
    assert answers[0] == answers[1]


def test_what_a_graph_does_not_hold_runs_without(engine_with, make_adapter, oracle):
    """Magnitudes beside plain adapters; and any adapter where there is no kernel."""
    (name, folder), (dora, beside) = make_adapter(47), make_adapter(48, use_dora=True)
    prompt = prompt_of(9)
    for kernel in (ByAddress(), None):
        tape = Tape()
        engine = engine_with(tape, kernel=kernel)
        engine.ensure_adapter(name, folder)
        engine.ensure_adapter(dora, beside)
        with engine.generate(request("dora", prompt, adapter=dora, max_tokens=40)) as tokens:
            got = [next(tokens).id]
            plain = tokens_of(engine, request("q", prompt, adapter=name))
            got += [token.id for token in tokens]
        assert plain == oracle(prompt, 24, folder)
        assert got == oracle(prompt, 40, beside)
        assert tokens_of(engine, request("base", prompt)) == oracle(prompt, 24)
        assert tape.captures >= 1


def test_a_device_that_captures_nothing_is_asked_once_for_each_shape(engine_with, oracle, caplog):
    engine = engine_with(Refusing())
    prompt = prompt_of(9)
    for each in "ab":
        assert tokens_of(engine, request(each, prompt)) == oracle(prompt, 24)
    assert engine.residency().graphs == 0
    assert caplog.text.count("no capture") == 1


def test_an_adapter_on_more_layers_is_captured_anew(engine_with, make_adapter, oracle):
    tape = Tape()
    engine = engine_with(tape, kernel=ByAddress())
    prompt = prompt_of(9)
    for seed, modules in ((49, ["q_proj"]), (50, ["q_proj", "up_proj"])):
        name, folder = make_adapter(seed, target_modules=modules)
        engine.ensure_adapter(name, folder)
        assert tokens_of(engine, request("q", prompt, adapter=name)) == oracle(prompt, 24, folder)
    assert tape.captures == 2
    assert engine.residency().graphs == 1  # nobody asks for the first again


def test_the_longest_unused_graph_goes_where_there_are_too_many(engine_with, monkeypatch, oracle):
    monkeypatch.setattr(graphs, "MOST", 2)
    monkeypatch.setattr(graphs, "FEWEST_PAGES", 1)
    tape = Tape()
    engine = engine_with(tape)
    prompt = prompt_of(5)
    assert tokens_of(engine, request("q", prompt, max_tokens=120)) == oracle(prompt, 120)
    assert tape.captures == 4  # rows of 1, 2, 4 and 8 pages
    assert engine.residency().graphs == 2


def backend_of(base_folder: Path, capture: Any, kernel: Any) -> ModuleBackend:
    model, base = load_base(base_folder, device="cpu", dtype="float32")
    with torch.inference_mode():
        return ModuleBackend(
            model, slots=5, context=base.context, pages=40, kernel=kernel, capture=capture
        )


def test_padding_writes_to_nobodys_page(base_folder):
    """Three rows in a graph for four: no page but those of the rows and the spare one changes."""
    backend = backend_of(base_folder, Tape(), ByAddress())
    with torch.inference_mode():
        graph_trial.trial(backend)
        stores = [*backend._cache._keys, *backend._cache._values]
        for store in stores:
            store[3:-1] = 7.0
        graph_trial.trial(backend)
        assert all(bool((store[3:-1] == 7.0).all()) for store in stores)
        assert all(bool(store[-1, 0].any()) for store in stores)  # what padding wrote


class Stale(Tape):
    """Replays, but with the inputs of its capture."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        super().capture(work)
        return lambda: None


class NoNumbers(Tape):
    logits: torch.Tensor

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        replay = super().capture(work)

        def spoilt() -> None:
            replay()
            self.logits.fill_(float("nan"))

        return spoilt


@pytest.mark.parametrize("kernel", [ByAddress(), None], ids=["adapters", "base"])
@pytest.mark.parametrize(
    ("capture", "seconds", "stays"),
    [(Tape, (1.0, 2.0), True), (Stale, (1.0, 2.0), False), (Tape, (2.0, 1.0), False),
     (NoNumbers, (1.0, 2.0), False), (Refusing, (1.0, 2.0), False)],
    ids=["right", "wrong", "slower", "no-numbers", "none"],
)  # fmt: skip
def test_an_engine_keeps_graphs_that_are_right_and_faster(
    base_folder, monkeypatch, kernel, capture, seconds, stays
):
    made = capture()
    backend = backend_of(base_folder, made, kernel)
    made.logits = backend.graphs._logits
    times = iter(seconds)
    monkeypatch.setattr(graph_trial, "_seconds", lambda *_: next(times))
    with torch.inference_mode():
        graph_trial.settle(backend)
    assert (backend.graphs is not None) is stays
    assert backend.lora.layers == 0  # nothing is left of the trial's adapters


def test_a_step_that_waits_for_the_device_is_not_captured():
    values = torch.ones(3)
    with pytest.raises(RuntimeError, match="wait"):
        Tape().capture(lambda: values.mul_(float(values.sum())))


def test_graphs_can_be_left_out(base_folder, monkeypatch):
    asked: list[bool] = []
    monkeypatch.setattr(choosing, "capture_of", lambda device: asked.append(True))
    Engine(base_folder, backend="transformers", graphs=False).close()
    assert not asked


def test_a_cpu_captures_nothing():
    assert choosing.capture_of(torch.device("cpu")) is None
