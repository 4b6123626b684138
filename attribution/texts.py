"""What was asked and answered, from whoever keeps it.

A receipt lets texts and tokens go. To score an answer once more they are asked for again, by the
completion's id; the app that answered registers itself when it is ready.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Texts:
    """As they went to `request_attribution`, token by token."""

    prompt: str
    answer: str
    prompt_ids: list[int]
    answer_ids: list[int]


Source = Callable[[UUID], Texts | None]

_sources: list[Source] = []


def register(source: Source) -> None:
    """Called when an app is ready."""
    _sources.append(source)


def texts_of(completion_id: UUID) -> Texts | None:
    """None where nobody keeps them, or not any more."""
    found = (source(completion_id) for source in _sources)
    return next((texts for texts in found if texts is not None), None)
