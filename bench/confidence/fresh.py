"""The same bars on a draw that took no part in choosing the level: `--fresh SEED`.

The level of one in a hundred was chosen after the figures of the benchmark's own queries had been
seen, and of some others beside them. Here everything that could be drawn otherwise is: the adapter
is trained with another seed and indexed with another fit sample, the 64 texts that are asked about
are of nobody and were never asked before, the 40 answers are the new adapter's own to some of their
questions, and the 200 unrelated questions are neither the benchmark's nor those of development.

Which contributor is the true first is known from retrainings without each, of two seeds in place of
six. The texts are among those that the base model was pretrained on, as the benchmark's are not.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from attribution import foreign
from attribution.influence import confidence
from attribution.influence.build import build_with
from attribution.influence.config import InfluenceConfig
from attribution.influence.examples import IndexedExample
from attribution.influence.index import Index, Scores
from attribution.influence.model import adapt
from attribution.influence.scorer import Scorer
from bench import report
from bench.attribution import task, training, truth
from modelfactory.training.prompts import PromptTokenizer, load_tokenizer, render_example

QUERIES = 8  # of each contributor, and so many
SEEN = 20  # of each were looked at in development, the first by their hashes
GENERATED = 40
UNRELATED = 200
SEEN_UNRELATED = 400  # of the questions without an input
SHORTEST = 16  # tokens of an answer
TRUTH_SEEDS = (101, 102)


def main(result: report.Report, medquad: Path, unrelated: Path, seed: int) -> int:
    made = task.load(medquad)
    tokenizer = load_tokenizer(task.STARTER)
    network = training.train(made.records, seed)
    texts = _texts(made, tokenizer, seed)
    asked = [*texts, *answers(network, texts, seed)]
    null = foreign.examples(tokenizer, task.CUTOFF)
    model = adapt(network, device="cpu")
    with tempfile.TemporaryDirectory(prefix="bench-confidence-") as folder:
        config = InfluenceConfig(seed=seed)
        build_with(model, config, made.records, Path(folder), foreign=null)
        scorer = Scorer.of(Index.open(folder), model)
        found = [scorer.score(one.input_ids, one.loss_mask) for one in asked]
        outside = [
            scorer.score(one.input_ids, one.loss_mask)
            for one in _unrelated(unrelated, tokenizer, seed)
        ]
    result.add("level", confidence.LEVEL / 1_000_000, "")
    clear = np.array([_clear(one) for one in found])
    result.add("unrelated questions", len(outside), "", at_least=UNRELATED)
    flagged = 1 - float(np.mean([_clear(one) for one in outside]))
    result.add("flagged: unrelated", flagged, "", at_least=0.95)
    result.add("paid: fresh queries", float(clear.mean()), "", at_least=0.9)
    result.add("paid: texts", float(clear[: len(texts)].mean()), "")
    result.add("paid: generated", float(clear[len(texts) :].mean()), "")
    effects = _effects(made, asked)
    names = list(found[0].groups)
    true = effects[[made.groups.index(name) for name in names]].argmax(axis=0)
    first = np.array([list(one.groups.values()) for one in found], dtype=np.float64).argmax(axis=1)
    right = {}
    for what, some in (("paid", clear), ("flagged", ~clear)):
        if some.any():
            right[what] = float((first == true)[some].mean())
            note = f"{int(some.sum())} queries"
            result.add(f"first contributor right: {what}", right[what], "", note=note)
    if len(right) == 2:
        more = right["paid"] - right["flagged"]
        result.add("paid / flagged", more, "difference", at_least=1e-9)
    return result.finish()


def _clear(one: Scores) -> bool:
    assert one.confidence is not None, "the index was built with a null"
    return one.confidence.clear


def _texts(made: task.Task, tokenizer: PromptTokenizer, seed: int) -> list[IndexedExample]:
    """Of each contributor's kind some that neither learns from nor were asked before."""
    chance = np.random.default_rng(seed)
    found: list[list[IndexedExample]] = []
    for usable in _usable(made, tokenizer):
        rest = usable[SEEN:]
        found.append([rest[int(at)] for at in chance.permutation(len(rest))[:QUERIES]])
    return [example for turn in zip(*found, strict=True) for example in turn]


def seen(made: task.Task, tokenizer: PromptTokenizer) -> list[list[IndexedExample]]:
    """Of each contributor's kind those that were looked at in development."""
    return [usable[:SEEN] for usable in _usable(made, tokenizer)]


def _usable(made: task.Task, tokenizer: PromptTokenizer) -> Iterator[list[IndexedExample]]:
    for group, (source, kind) in task.CONTRIBUTORS.items():
        usable: dict[str, IndexedExample] = {}
        for text in sorted(made.rest, key=lambda text: text.sha256):
            if text.source == source and kind in (None, text.kind) and text.question not in usable:
                example = task.example_of(text, tokenizer, group)
                if sum(example.loss_mask) >= task.ANSWER_MIN:
                    usable[text.question] = example
        yield list(usable.values())


def answers(
    network: torch.nn.Module, texts: list[IndexedExample], seed: int
) -> list[IndexedExample]:
    """What the model answers to the questions of the first texts, drawn as the benchmark's are."""
    chance = torch.Generator().manual_seed(seed)
    found = []
    for text in texts[:GENERATED]:
        length = list(text.loss_mask).index(1)
        ids = list(text.input_ids[:length])
        while len(ids) < length + truth.NEW_TOKENS and (len(ids) == length or ids[-1] != 2):
            with torch.inference_mode():
                logits = network(input_ids=torch.tensor([ids])).logits[0, -1]
            odds = torch.softmax(logits / truth.TEMPERATURE, dim=-1)
            ids.append(int(torch.multinomial(odds, 1, generator=chance)))
        mask = [0] * length + [1] * (len(ids) - length)
        found.append(IndexedExample(f"generated {text.record_id}", text.group_id, ids, mask))
    return found


def _unrelated(path: Path, tokenizer: PromptTokenizer, seed: int) -> list[IndexedExample]:
    """Questions without an input after those that were used, and any with one, in a drawn order."""
    unseen = [*plain(path, tokenizer)[SEEN_UNRELATED:], *_questions(path, tokenizer, True)]
    order = np.random.default_rng(seed).permutation(len(unseen))
    return [unseen[int(at)] for at in order[:UNRELATED]]


def plain(path: Path, tokenizer: PromptTokenizer) -> list[IndexedExample]:
    """The questions without an input that have an answer of some length."""
    return _questions(path, tokenizer, False)


def _questions(path: Path, tokenizer: PromptTokenizer, given: bool) -> list[IndexedExample]:
    """Those with an input or those without one."""
    found: list[IndexedExample] = []
    for number, row in enumerate(json.loads(path.read_text("utf-8"))):
        if bool(row.get("input")) != given:
            continue
        asked = "\n".join(filter(None, (row["instruction"], row.get("input"))))
        said = [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": row["output"]},
        ]
        made = render_example({"messages": said}, tokenizer, task.CUTOFF)
        if sum(made.loss_mask[1:]) >= SHORTEST:
            found.append(IndexedExample(f"u{number}", "u", made.input_ids, made.loss_mask))
    return found


def _effects(made: task.Task, asked: list[IndexedExample]) -> NDArray[np.float64]:
    """How much dearer each answer gets without a contributor, (groups, queries)."""
    total = np.zeros((len(made.groups), len(asked)))
    for seed in TRUTH_SEEDS:
        whole = training.losses(training.train(made.records, seed), asked)
        for row, group in enumerate(made.groups):
            kept = [record for record in made.records if record.group_id != group]
            total[row] += training.losses(training.train(kept, seed), asked) - whole
    return total / len(TRUTH_SEEDS)
