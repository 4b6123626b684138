"""The records that an index is built from, as token ids."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attribution.influence.errors import InfluenceError, QueryError, RecordError


@dataclass(frozen=True, slots=True)
class IndexedExample:
    """One record as it was trained on.

    ``loss_mask[i]`` is 1 where token ``i`` was a target of the loss. ``group_id`` names who is
    paid for it (contributor, Datanet and version in one string).
    """

    record_id: str
    group_id: str
    input_ids: Sequence[int]
    loss_mask: Sequence[int]
    content_hash: str = ""

    def digest(self) -> str:
        """Hex SHA-256 of everything that the index depends on."""
        names = f"{self.record_id}\x00{self.group_id}\x00{self.content_hash}\x00"
        ids = np.asarray(self.input_ids, dtype="<i4").tobytes()
        mask = np.asarray(self.loss_mask, dtype=np.uint8).tobytes()
        return hashlib.sha256(names.encode() + ids + b"\x00" + mask).hexdigest()


def check_examples(examples: Sequence[IndexedExample], context_length: int) -> None:
    """Raises RecordError for the first record that cannot be indexed, InfluenceError for none."""
    if not examples:
        raise InfluenceError("An index needs at least one record.")
    seen: set[str] = set()
    for example in examples:
        reason = _problem(example.input_ids, example.loss_mask, context_length)
        if example.record_id in seen:
            reason = "it stands twice among the records."
        if reason:
            raise RecordError(example.record_id, reason)
        seen.add(example.record_id)


def check_query(input_ids: Sequence[int], loss_mask: Sequence[int], context_length: int) -> None:
    """Raises QueryError where there is nothing to attribute."""
    if len(input_ids) > 1 and not any(loss_mask[1:]):
        raise QueryError("The query has no answer tokens, so there is nothing to attribute.")
    if reason := _problem(input_ids, loss_mask, context_length):
        raise QueryError(f"The query cannot be attributed: {reason}")


def _problem(input_ids: Sequence[int], loss_mask: Sequence[int], context_length: int) -> str:
    if len(input_ids) != len(loss_mask):
        return f"it has {len(input_ids)} tokens but a loss mask of {len(loss_mask)}."
    if len(input_ids) < 2 or not any(loss_mask[1:]):
        return "it is empty: no token of it was a target of the loss."
    if len(input_ids) > context_length:
        return f"it has {len(input_ids)} tokens, more than the model's context {context_length}."
    return ""
