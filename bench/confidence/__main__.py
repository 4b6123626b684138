"""Whether "no clear influence" is said where it should be: `python -m bench.confidence`.

The adapter of Task A (`bench/attribution/task.py`) is indexed with the product's own foreign
records as its null. Then it is judged on 200 questions of everyday life with answers that the model
neither learned nor wrote (LLaMA-Factory's demo data, Apache-2.0, read by path), where influence is
to be called unclear; and on the benchmark's own queries, held out and generated, where it is to be
paid. Whether the first contributor is the true first is known from retraining without each.

What the model itself answers to the 200 questions is told without a bar: a small model that was
taught medicine answers everything in its words, and its records did shape that.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from attribution import foreign
from attribution.influence import confidence
from attribution.influence.build import build_with
from attribution.influence.confidence import Confidence
from attribution.influence.config import InfluenceConfig
from attribution.influence.examples import IndexedExample
from attribution.influence.index import Index, Scores
from attribution.influence.scorer import Scorer
from bench import report
from bench.attribution import runs, task, truth
from modelfactory.training.prompts import load_tokenizer, render_example, render_prompt

UNRELATED = 200
SHORTEST = 16  # tokens of an answer


def main() -> int:
    parser = report.parser(__doc__)
    parser.add_argument("--medquad", type=Path, default=Path("../shared/data/medquad"))
    parser.add_argument(
        "--unrelated", type=Path, default=Path("../shared/data/formats/alpaca_en_demo.json")
    )
    parser.add_argument(
        "--fresh", type=int, metavar="SEED", help="on a draw that nothing was chosen on"
    )
    parser.add_argument("--develop", action="store_true", help="choose the rule, write the log")
    parser.add_argument("--generate", action="store_true", help="also what the model answers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = report.Report("confidence", options)
    if options.fresh is not None:
        from bench.confidence import fresh

        return fresh.main(result, options.medquad, options.unrelated, options.fresh)
    if options.develop:
        from bench.confidence import develop

        return develop.main(options.medquad, options.unrelated)
    world = runs.prepare(options.medquad)
    null = foreign.examples(load_tokenizer(task.STARTER), task.CUTOFF)
    with tempfile.TemporaryDirectory(prefix="bench-confidence-") as folder:
        build_with(world.model, InfluenceConfig(), world.made.records, Path(folder), foreign=null)
        scorer = Scorer.of(Index.open(folder), world.model)
        asked = _ask(scorer, world.asked)
        outside = _ask(scorer, unrelated(options.unrelated))
        answered = _ask(scorer, _answers(world, options.unrelated)) if options.generate else []
    result.add("foreign records of the null", len(null), "")
    result.add("level", confidence.LEVEL / 1_000_000, "")
    _tell(result, world, asked, outside, answered)
    return result.finish()


def _tell(
    result: report.Report,
    world: runs.World,
    asked: list[Scores],
    outside: list[Scores],
    answered: list[Scores],
) -> None:
    held = len(world.made.queries)
    clear = np.array([_judged(one).clear for one in asked])
    result.add("unrelated questions", len(outside), "", at_least=UNRELATED)
    result.add("flagged: unrelated", 1 - _part(outside), "", at_least=0.95)
    result.add("paid: the benchmark's queries", float(clear.mean()), "", at_least=0.9)
    result.add("paid: held out", float(clear[:held].mean()), "")
    result.add("paid: generated", float(clear[held:].mean()), "")
    if answered:
        result.add("paid: the model's own answers to unrelated questions", _part(answered), "")
    order = [world.made.groups.index(name) for name in asked[0].groups]
    true = world.known.effects[:, order].argmax(axis=1)
    found = np.array([list(one.groups.values()) for one in asked], dtype=np.float64).argmax(axis=1)
    right = found == true
    paid = float(right[clear].mean()) if clear.any() else 0.0
    rest = float(right[~clear].mean()) if not clear.all() else float("nan")
    result.add("first contributor right: paid", paid, "")
    result.add("first contributor right: flagged", rest, "", note=f"{int((~clear).sum())} queries")
    if not clear.all():
        result.add("paid / flagged", paid - rest, "difference", at_least=1e-9)
    apart = np.array([max(_judged(one).apart.values()) for one in asked])
    for name, chosen in (("apart", apart >= APART), ("not apart", apart < APART)):
        if chosen.any():
            result.add(f"first contributor right: {name}", float(right[chosen].mean()), "",
                       note=f"{int(chosen.sum())} queries")  # fmt: skip


# Thousandths of a deviation above permuted labels at which eight groups are told apart: the
# level of two in a hundred, divided by eight.
APART = 2_810


def unrelated(path: Path) -> list[IndexedExample]:
    """The first questions without an input that have an answer of some length."""
    tokenizer = load_tokenizer(task.STARTER)
    found = []
    for number, row in enumerate(_rows(path)):
        said = {
            "messages": [
                {"role": "user", "content": row["instruction"]},
                {"role": "assistant", "content": row["output"]},
            ]
        }
        made = render_example(said, tokenizer, task.CUTOFF)
        if sum(made.loss_mask[1:]) >= SHORTEST:
            found.append(IndexedExample(f"u{number}", "u", made.input_ids, made.loss_mask))
    return found[:UNRELATED]


def _answers(world: runs.World, path: Path) -> list[IndexedExample]:
    tokenizer = load_tokenizer(task.STARTER)
    torch.manual_seed(truth.FULL_SEED)
    found: list[IndexedExample] = []
    for number, row in enumerate(_rows(path)):
        prompt = render_prompt([{"role": "user", "content": row["instruction"]}], tokenizer)
        if len(prompt) > task.CUTOFF or len(found) == UNRELATED:
            continue
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            made = world.model.network.generate(  # type: ignore[operator]
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True,
                temperature=truth.TEMPERATURE, max_new_tokens=truth.NEW_TOKENS, pad_token_id=0,
            )[0].tolist()  # fmt: skip
        mask = [0] * len(prompt) + [1] * (len(made) - len(prompt))
        if any(mask):
            found.append(IndexedExample(f"a{number}", "a", made, mask))
    return found


def _rows(path: Path) -> list[dict[str, str]]:
    return [row for row in json.loads(path.read_text("utf-8")) if not row.get("input")]


def _ask(scorer: Scorer, examples: list[IndexedExample]) -> list[Scores]:
    return [scorer.score(one.input_ids, one.loss_mask) for one in examples]


def _judged(one: Scores) -> Confidence:
    assert one.confidence is not None, "the index was built with a null"
    return one.confidence


def _part(found: list[Scores]) -> float:
    return sum(_judged(one).clear for one in found) / len(found)


if __name__ == "__main__":
    raise SystemExit(main())
