"""Which tokens of the prompt an answer hangs on: captum's gradient times input.

The log-probability of the whole answer is derived by the embedding of each prompt token; the
product with the embedding, summed, is the token's weight. Positive where the token made the answer
likelier. One forward and one backward. It is a first-order estimate: it looks at the answer that
was given, and says nothing of what another prompt would have led to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from captum.attr import InputXGradient
from torch import Tensor

from attribution.influence.model import AdaptedModel

METHOD, VERSION = "captum-input-x-gradient", 1
# Weights are whole numbers of such parts; their magnitudes add up to about this.
# Fine enough that the words can still be told apart where a marker of the template takes most.
PARTS = 1_000_000


def prompt_weights(
    model: AdaptedModel, prompt_ids: Sequence[int], answer_ids: Sequence[int]
) -> list[int]:
    """One signed weight in PARTS for each token of the prompt.

    Empty where there is no prompt, no answer, or no finite weight.
    """
    network: Any = model.network
    count = len(prompt_ids)
    ids = torch.tensor([[*prompt_ids, *answer_ids]], dtype=torch.long, device=model.device)
    if not count or count == ids.shape[1] or ids.shape[1] > model.context_length:
        return []
    targets = ids[0, count:]

    def answer_log_probability(embedded: Tensor) -> Tensor:
        logits = network(inputs_embeds=embedded).logits[
            :, count - 1 : -1
        ]  # (1, answer, vocabulary)
        chosen: Tensor = logits.log_softmax(-1).gather(-1, targets[None, :, None])
        return chosen.sum((1, 2))

    with model.lock:
        embedded = network.get_input_embeddings()(ids).detach().requires_grad_()  # (1, seq, hidden)
        weights = InputXGradient(answer_log_probability).attribute(embedded)
    return in_parts(weights[0, :count].sum(-1).double().cpu().tolist())


def in_parts(weights: Sequence[float]) -> list[int]:
    """Whole parts of the sum of magnitudes; empty where there is nothing to divide."""
    whole = sum(abs(one) for one in weights)
    if not 0 < whole < float("inf"):
        return []
    return [round(PARTS * one / whole) for one in weights]
