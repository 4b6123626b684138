"""Which records are read together, and the tensors they become."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from modelfactory.training.data import Item
from modelfactory.training.recipe import Recipe

IGNORED = -100  # the label that cross entropy leaves out
BUCKET = 16  # batches among which records of like length are looked for


@dataclass(frozen=True)
class Batch:
    """Tensors of one pass. With packing a row holds several records, else exactly one."""

    input_ids: torch.Tensor  # (rows, length)
    labels: torch.Tensor  # (rows, length), IGNORED where nothing is learnt
    attention_mask: torch.Tensor  # (rows, length), or (rows, 1, length, length) when packed
    position_ids: torch.Tensor  # (rows, length)
    tokens: int  # without padding

    @property
    def predicted(self) -> int:
        return int((self.labels[:, 1:] != IGNORED).sum())

    def to(self, device: str) -> "Batch":
        return Batch(
            self.input_ids.to(device),
            self.labels.to(device),
            self.attention_mask.to(device),
            self.position_ids.to(device),
            self.tokens,
        )


def plan_epoch(items: Sequence[Item], recipe: Recipe, epoch: int) -> list[list[list[int]]]:
    """Batches of rows of item numbers, in an order that only seed and epoch decide.

    Records of like length share a batch, which saves most of the padding; the batches
    themselves are shuffled.
    """
    chosen = random.Random(f"{recipe.seed}:{epoch}")
    order = list(range(len(items)))
    chosen.shuffle(order)
    rows = _packed(order, items, recipe.cutoff) if recipe.packing else [[i] for i in order]
    sizes = [sum(len(items[i].example.input_ids) for i in row) for row in rows]
    batches, span = [], recipe.batch_size * BUCKET
    for start in range(0, len(rows), span):
        bucket = sorted(range(start, min(start + span, len(rows))), key=lambda r: sizes[r])
        for at in range(0, len(bucket), recipe.batch_size):
            batches.append([rows[r] for r in bucket[at : at + recipe.batch_size]])
    chosen.shuffle(batches)
    return batches


def _packed(order: Sequence[int], items: Sequence[Item], length: int) -> list[list[int]]:
    """First fit in the given order, looking back over the last open rows only."""
    rows: list[list[int]] = []
    room: list[int] = []
    for number in order:
        size = len(items[number].example.input_ids)
        for row in range(max(0, len(rows) - 32), len(rows)):
            if room[row] >= size:
                rows[row].append(number)
                room[row] -= size
                break
        else:
            rows.append([number])
            room.append(length - size)
    return rows


def collate(rows: Sequence[Sequence[int]], items: Sequence[Item], pad: int) -> Batch:
    """Pad to the right up to the longest row."""
    packed = any(len(row) > 1 for row in rows)
    length = max(sum(len(items[i].example.input_ids) for i in row) for row in rows)
    shape = (len(rows), length)
    ids = torch.full(shape, pad)
    labels = torch.full(shape, IGNORED)
    positions = torch.zeros(shape, dtype=torch.long)
    owner = torch.full(shape, -1)  # which record of its row a token belongs to
    for r, row in enumerate(rows):
        at = 0
        for place, number in enumerate(row):
            example = items[number].example
            end = at + len(example.input_ids)
            ids[r, at:end] = torch.tensor(example.input_ids)
            mask = torch.tensor(example.loss_mask, dtype=torch.bool)
            labels[r, at:end] = torch.where(mask, ids[r, at:end], IGNORED)
            labels[r, at] = IGNORED  # nothing stands before a record's first token
            positions[r, at:end] = torch.arange(end - at)
            owner[r, at:end] = place
            at = end
    real = owner >= 0
    attention = _block_mask(owner) if packed else real.long()
    return Batch(ids, labels, attention, positions, int(real.sum()))


def _block_mask(owner: torch.Tensor) -> torch.Tensor:
    """Additive causal mask in which every record sees only itself, (rows, 1, length, length)."""
    length = owner.shape[1]
    same = owner[:, :, None] == owner[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    allowed = (same & causal)[:, None]
    return torch.where(allowed, 0.0, torch.finfo(torch.float32).min)
