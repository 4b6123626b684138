"""Task A: real text of eight contributors, a small base model, and what is asked of its adapter.

The text is MedQuAD (Ben Abacha and Demner-Fushman 2019, CC BY 4.0), read from a folder by path
and not shipped; `truth.npz` names every record and query by its hash, so that another edition of
the text is noticed. A contributor is a source, or a source and a kind of question. Records are
cut to 64 tokens, which keeps a retraining at a few seconds of one core.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from attribution.influence.examples import IndexedExample
from modelfactory.training.prompts import PromptTokenizer, load_tokenizer, render_example

STARTER = Path(__file__).resolve().parents[2] / "modelfactory" / "starter"
FOLDER = Path(__file__).parent / "task_a"

CUTOFF = 64  # tokens of a record
RECORDS = 64  # of each contributor
QUERIES = 8  # held out of each contributor
DEVELOPMENT = 20  # queries on which settings may be chosen
ANSWER_MIN = 24  # tokens of an answer that are left after the cutoff, at least
CONTRIBUTORS = {
    "cancer-gov": ("cancer-gov", None),
    "gard information": ("gard", "information"),
    "gard treatment": ("gard", "treatment"),
    "ghr genetic changes": ("ghr", "genetic changes"),
    "ghr information": ("ghr", "information"),
    "medlineplus": ("medlineplus", None),
    "nhlbi": ("nhlbi", None),
    "ninds": ("ninds", None),
}


@dataclass(frozen=True, slots=True)
class Text:
    """A row of MedQuAD as an example; ``sha256`` is over its question and answer."""

    source: str
    kind: str
    question: str
    answer: str
    sha256: str

    def payload(self) -> dict[str, list[dict[str, str]]]:
        return {
            "messages": [
                {"role": "user", "content": self.question},
                {"role": "assistant", "content": self.answer},
            ]
        }


@dataclass(frozen=True, slots=True)
class Task:
    """``records`` by contributor and hash; ``queries`` the development ones first; ``rest`` is
    what belongs to neither, for the base model."""

    records: list[IndexedExample]
    queries: list[IndexedExample]
    texts: dict[str, Text]
    rest: list[Text]

    @property
    def groups(self) -> list[str]:
        return sorted({record.group_id for record in self.records})

    def prompt_length(self, query: IndexedExample) -> int:
        return list(query.loss_mask).index(1)


def load(medquad: Path) -> Task:
    """Read the folder and draw records and queries. Raises FileNotFoundError."""
    tokenizer = load_tokenizer(STARTER)
    texts = list(read(medquad))
    taken: set[str] = set()
    records: list[IndexedExample] = []
    queries: list[list[IndexedExample]] = []
    for group, (source, kind) in CONTRIBUTORS.items():
        mine = [t for t in texts if t.source == source and kind in (None, t.kind)]
        drawn = _draw(mine, tokenizer, RECORDS + QUERIES, taken, group)
        records += sorted(drawn[:RECORDS], key=lambda example: example.record_id)
        queries.append(drawn[RECORDS:])
    in_turn = [row[turn] for turn in range(QUERIES) for row in queries]
    by_hash = {text.sha256: text for text in texts}
    used = {example.content_hash for example in [*records, *in_turn]}
    questions = {by_hash[name].question for name in used}
    rest = [t for t in texts if t.sha256 not in used and t.question not in questions]
    return Task(records, in_turn, {name: by_hash[name] for name in used}, rest)


def read(medquad: Path) -> Iterator[Text]:
    """Every row of the six files, those that say the same once."""
    seen: set[str] = set()
    for source in sorted({source for source, _ in CONTRIBUTORS.values()}):
        with (medquad / f"{source}.jsonl").open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                said = f"{row['question']}\x00{row['answer']}".encode()
                name = hashlib.sha256(said).hexdigest()
                if name not in seen:
                    seen.add(name)
                    yield Text(source, row["type"], row["question"], row["answer"], name)


def example_of(text: Text, tokenizer: PromptTokenizer, group: str) -> IndexedExample:
    made = render_example(text.payload(), tokenizer, CUTOFF)
    name = f"{group}/{text.sha256[:16]}"
    return IndexedExample(name, group, made.input_ids, made.loss_mask, text.sha256)


def _draw(
    texts: list[Text], tokenizer: PromptTokenizer, count: int, taken: set[str], group: str
) -> list[IndexedExample]:
    """The first ``count`` usable texts in the order of their hashes, one to a question."""
    drawn: list[IndexedExample] = []
    for text in sorted(texts, key=lambda text: text.sha256):
        if text.question in taken:
            continue
        example = example_of(text, tokenizer, group)
        if sum(example.loss_mask) < ANSWER_MIN:
            continue
        taken.add(text.question)
        drawn.append(example)
        if len(drawn) == count:
            return drawn
    raise ValueError(f"{group} has {len(drawn)} usable texts, {count} are needed.")
