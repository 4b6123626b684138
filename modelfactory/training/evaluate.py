"""How good a model is on records that it never saw: loss, perplexity, and answers compared."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from modelfactory.training.batches import IGNORED, collate
from modelfactory.training.data import Item
from modelfactory.training.prompts import PromptTokenizer, render_prompt

EVALUATION_BATCH = 16


@dataclass(frozen=True)
class HeldOut:
    """Losses in nats over the held-out records."""

    loss: float  # mean a predicted token
    tokens: int
    by_record: dict[str, float]  # mean loss of each record

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.loss, 700.0))

    def to_json(self) -> dict[str, Any]:
        return {"loss": self.loss, "perplexity": self.perplexity, "tokens": self.tokens}


@torch.inference_mode()
def held_out_loss(model: Any, items: Sequence[Item], *, pad: int, device: str) -> HeldOut:
    """Completion-only loss; the model is left in the mode it was in."""
    was_training = model.training
    model.eval()
    ranked = sorted(range(len(items)), key=lambda i: len(items[i].example.input_ids))
    total, count = 0.0, 0
    by_record: dict[str, float] = {}
    for start in range(0, len(ranked), EVALUATION_BATCH):
        chosen = ranked[start : start + EVALUATION_BATCH]
        batch = collate([[i] for i in chosen], items, pad).to(device)
        losses, valid = token_losses(model, batch.input_ids, batch.labels, batch.attention_mask)
        for row, number in enumerate(chosen):
            row_sum, row_count = float(losses[row].sum()), int(valid[row].sum())
            by_record[items[number].record] = row_sum / max(1, row_count)
            total, count = total + row_sum, count + row_count
    model.train(was_training)
    return HeldOut(total / max(1, count), count, by_record)


def token_losses(
    model: Any, input_ids: torch.Tensor, labels: torch.Tensor, attention_mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of each predicted token, (rows, length - 1), zero where not `valid`."""
    logits = model(input_ids=input_ids, attention_mask=attention_mask).logits[:, :-1].float()
    targets = labels[:, 1:]
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return losses.view_as(targets), targets != IGNORED


@dataclass(frozen=True)
class Answer:
    """One held-out question with the answer that stands there and the one that was made."""

    record: str
    prompt: str
    reference: str
    answer: str
    exact: bool
    rouge_l: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def questions(items: Sequence[Item], count: int) -> list[Item]:
    """The first `count` held-out conversations that end with an assistant's answer."""
    asked = [i for i in items if i.payload.get("messages", [{}])[-1].get("role") == "assistant"]
    return [i for i in asked if len(i.payload["messages"]) > 1][:count]


@torch.inference_mode()
def answer(
    model: Any,
    items: Sequence[Item],
    tokenizer: PromptTokenizer,
    *,
    context: int,
    tokens: int,
    device: str,
) -> list[Answer]:
    """Greedy answers to held-out questions, one question at a time, without sampling."""
    was_training = model.training
    model.eval()
    answers = []
    for item in items:
        messages = item.payload["messages"]
        prompt = render_prompt(messages[:-1], tokenizer)[-(context - tokens) :]
        made = model.generate(
            input_ids=torch.tensor([prompt], device=device),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long, device=device),
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=tokenizer.special_id("pad_token") or 0,
            eos_token_id=tokenizer.special_id("eos_token"),
        )
        text = tokenizer.decode(made[0, len(prompt) :].tolist()).strip()
        reference = str(messages[-1]["content"])
        # Answers are short: the reference is compared over the length that could be reached.
        reachable = tokenizer.decode(tokenizer.encode(reference)[:tokens]).strip()
        answers.append(
            Answer(
                record=item.record,
                prompt=str(messages[-2]["content"]),
                reference=reference,
                answer=text,
                exact=words(text) == words(reachable),
                rouge_l=rouge_l(text, reachable),
            )
        )
    model.train(was_training)
    return answers


def words(text: str) -> list[str]:
    """Lower-case runs of letters and digits."""
    return "".join(c.lower() if c.isalnum() else " " for c in text).split()


def rouge_l(candidate: str, reference: str) -> float:
    """F1 of the longest common subsequence of words (Lin 2004), 0 to 1."""
    left, right = words(candidate), words(reference)
    if not left or not right or not (Counter(left) & Counter(right)):
        return 0.0
    row = [0] * (len(right) + 1)
    for word in left:
        diagonal = 0
        for column, other in enumerate(right, 1):
            above = row[column]
            row[column] = diagonal + 1 if word == other else max(above, row[column - 1])
            diagonal = above
    common = row[-1]
    return 2 * common / (len(left) + len(right))


def compare(before: Sequence[Answer], after: Sequence[Answer]) -> dict[str, Any]:
    """Figures and texts of both answers to each question."""

    def mean(values: list[float]) -> float:
        return sum(values) / len(values) if values else 0.0

    return {
        "count": len(after),
        "exact_match_before": mean([float(a.exact) for a in before]),
        "exact_match_after": mean([float(a.exact) for a in after]),
        "rouge_l_before": mean([a.rouge_l for a in before]),
        "rouge_l_after": mean([a.rouge_l for a in after]),
        "samples": [
            {**new.to_json(), "answer_before": old.answer, "rouge_l_before": old.rouge_l}
            for old, new in zip(before, after, strict=True)
        ],
    }
