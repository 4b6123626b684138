"""What can be wrong with records, answers and files of spans. Every error names the culprit."""

from __future__ import annotations


class SpansError(Exception):
    """Base of all errors of this core."""


class TokenError(SpansError):
    """A record or an answer holds a token that is not in the vocabulary."""


class SpansFileError(SpansError):
    """A file is missing, truncated, altered, of another index, or could not be written."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"Span index file {path}: {reason}")
