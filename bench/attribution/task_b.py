"""Task B, the harder one: twelve contributors who write about the same topics, some near-copies.

Each of twelve topics (a source of MedQuAD, or a source and a kind of question) is written by three
contributors, and an eighth of everybody's records is another contributor's record with a few words
changed. Who wrote a record can no longer be told from what it is about. The base model is the
starter model of 4 million parameters; records are 64 tokens long, none shorter; the adapter has
rank 16 and is trained for 512 steps. See `task.py` for the text and its licence.

The larger form (LARGE) has the same text, a base of 12.8 million parameters, rank 32 and 2,048
steps: hours on a CPU, made for a GPU.
"""

from __future__ import annotations

import copy
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from attribution.influence.examples import IndexedExample
from attribution.influence.index import file_sha256
from bench.attribution import task, training
from bench.attribution.task import STARTER, Task, Text
from modelfactory.training.prompts import PromptTokenizer, load_tokenizer

FOLDER = Path(__file__).parent / "task_b"
TOPICS = (
    ("cancer-gov", None),
    ("gard", "causes"),
    ("gard", "information"),
    ("gard", "inheritance"),
    ("gard", "treatment"),
    ("ghr", "genetic changes"),
    ("ghr", "information"),
    ("ghr", "inheritance"),
    ("medlineplus", None),
    ("nhlbi", None),
    ("ninds", "information"),
    ("ninds", "treatment"),
)
RECORDS = 1_024
WRITERS = ((0, 0.5), (1, 0.3), (4, 0.2))  # a contributor's topics, counted from its own, and parts
COPIED = 8  # every eighth record is a near-copy
QUERIES = 5  # held out of each topic
DEVELOPMENT = task.DEVELOPMENT
LAYERS = "model.layers."
REPEATED = 4  # of the larger form: each of the starter's layers


def starter() -> Any:
    """The starter model in fp32."""
    network: Any = AutoModelForCausalLM.from_pretrained(
        STARTER, dtype=torch.float32, attn_implementation="eager"
    )
    return network


@cache
def base_sha256() -> str:
    """Of the starter's weights, for which alone a truth holds."""
    return file_sha256(STARTER / "model.safetensors")


def deep_starter() -> Any:
    """The starter with each of its four layers four times in a row, in fp32: 12.8 million
    parameters from a file that is here already. What a layer adds to the stream is divided by
    four, so that the whole does nearly what the starter does."""
    network = starter()
    config = copy.deepcopy(network.config)
    config.num_hidden_layers *= REPEATED
    deep: Any = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    weights = network.state_dict()
    made = {name: value for name, value in weights.items() if not name.startswith(LAYERS)}
    for name, value in weights.items():
        if name.startswith(LAYERS):
            number, _, rest = name.removeprefix(LAYERS).partition(".")
            adds = rest in ("self_attn.o_proj.weight", "mlp.down_proj.weight")
            for turn in range(REPEATED):
                place = REPEATED * int(number) + turn
                made[f"{LAYERS}{place}.{rest}"] = value / REPEATED if adds else value
    deep.load_state_dict(made)
    return deep.float()


@dataclass(frozen=True, slots=True)
class Form:
    """A size of the task, with the folder of its truth."""

    folder: Path
    recipe: training.Recipe
    epochs: int

    @property
    def truth(self) -> Path:
        return self.folder / "truth.npz"


PLAIN = Form(
    FOLDER,
    training.Recipe(starter, rank=16, batch=4, learning_rate=1e-3, mixed=True),
    training.EPOCHS,
)
LARGE = Form(
    FOLDER.with_name("task_b_large"),
    training.Recipe(deep_starter, rank=32, batch=4, learning_rate=5e-4, mixed=True),
    epochs=8,
)
FORMS = {"plain": PLAIN, "large": LARGE}


def load(medquad: Path) -> Task:
    """Read the folder and draw records and queries. Raises FileNotFoundError."""
    tokenizer = load_tokenizer(STARTER)
    texts = sorted(task.read(medquad), key=lambda text: text.sha256)
    asked: set[str] = set()
    wells = [_usable(texts, topic, tokenizer, asked) for topic in TOPICS]
    held_out = [[next(well) for _ in range(QUERIES)] for well in wells]
    originals: list[list[tuple[int, Text]]] = [[] for _ in TOPICS]  # (contributor, text) by topic
    records: list[IndexedExample] = []
    texts_by_hash: dict[str, Text] = {}

    def write(text: Text, contributor: int) -> None:
        records.append(task.example_of(text, tokenizer, f"contributor {contributor:02}"))
        texts_by_hash[text.sha256] = text

    plan = list(_plan())
    for contributor, topic, copied in plan:
        if not copied:
            text = next(wells[topic])
            originals[topic].append((contributor, text))
            write(text, contributor)
    draw = random.Random(2026)
    for contributor, topic, copied in plan:
        if copied:
            others = [text for writer, text in originals[topic] if writer != contributor]
            write(_near_copy(draw.choice(others), draw, tokenizer), contributor)
    queries = [
        task.example_of(held_out[topic][turn], tokenizer, _name(topic))
        for turn in range(QUERIES)
        for topic in range(len(TOPICS))
    ]
    for row in held_out:
        texts_by_hash |= {text.sha256: text for text in row}
    records.sort(key=lambda record: record.record_id)
    return Task(records, queries, texts_by_hash, [])


def _plan() -> Iterator[tuple[int, int, bool]]:
    """(contributor, topic, whether it is a near-copy) of every record."""
    count = len(TOPICS)
    for contributor in range(count):
        mine = RECORDS // count + (contributor < RECORDS % count)
        topics = [
            (contributor + step) % count
            for step, part in WRITERS
            for _ in range(round(part * mine))
        ]
        topics += [contributor] * mine
        for place, topic in enumerate(topics[:mine]):
            yield contributor, topic, place % COPIED == COPIED - 1


def _usable(
    texts: list[Text], topic: tuple[str, str | None], tokenizer: PromptTokenizer, asked: set[str]
) -> Iterator[Text]:
    """Texts of the topic that fill a record, one to a question, in the order of their hashes."""
    source, kind = topic
    for text in texts:
        fits = text.source == source and kind in (None, text.kind)
        if fits and text.question not in asked and _fills(text, tokenizer):
            asked.add(text.question)
            yield text
    raise ValueError(f"{source} {kind or ''} has too few usable texts.")


def _fills(text: Text, tokenizer: PromptTokenizer) -> bool:
    example = task.example_of(text, tokenizer, "")
    return len(example.input_ids) == task.CUTOFF and sum(example.loss_mask) >= task.ANSWER_MIN


def _near_copy(text: Text, draw: random.Random, tokenizer: PromptTokenizer) -> Text:
    """The same question and answer with two words of the beginning swapped and one left out."""
    while True:
        words = text.answer.split(" ")
        place = draw.randrange(2, 20)
        words[place], words[place + 1] = words[place + 1], words[place]
        del words[draw.randrange(2, 20)]
        answer = " ".join(words)
        name = hashlib.sha256(f"{text.question}\x00{answer}".encode()).hexdigest()
        copy = Text(text.source, text.kind, text.question, answer, name)
        if answer != text.answer and _fills(copy, tokenizer):
            return copy


def _name(topic: int) -> str:
    source, kind = TOPICS[topic]
    return f"{source} {kind}" if kind else source
