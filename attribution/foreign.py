"""Foreign records: everyday questions with answers that no model of this house was taught.

`foreign.txt` was written for this purpose and is published with the product, so that whoever builds
an index anew has the same null. A Datanet that is about one of these matters is judged a little too
strictly by it, since some of them do have something to do with its records.
"""

from __future__ import annotations

from pathlib import Path

from attribution.influence.examples import IndexedExample
from modelfactory.training.prompts import PromptTokenizer, render_example

FILE = Path(__file__).with_name("foreign.txt")
GROUP = "foreign"
# As long as a short answer, so that a null costs a build only seconds.
TOKENS = 96


def examples(tokenizer: PromptTokenizer, cutoff: int) -> list[IndexedExample]:
    """All of them as this model reads them, cut to ``cutoff`` or TOKENS tokens; what is left
    without an answer is left out. Raises PromptError where the template refuses them."""
    found = []
    for number, line in enumerate(FILE.read_text("utf-8").splitlines(), 1):
        question, answer = line.split("|")
        payload = {
            "messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
        }
        made = render_example(payload, tokenizer, min(cutoff, TOKENS))
        if any(made.loss_mask[1:]):
            found.append(
                IndexedExample(f"foreign-{number:03d}", GROUP, made.input_ids, made.loss_mask)
            )
    return found
