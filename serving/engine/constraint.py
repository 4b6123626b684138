"""Answers that are JSON of a schema: which tokens may come next, by outlines-core.

A schema becomes a regular expression, and that an automaton over the base's tokens; it is made
once for each schema and kept. Limits: what outlines-core cannot express (recursion deeper than 3,
numeric bounds) is refused or left open as it says; making an automaton takes seconds for a large
vocabulary, on the caller's thread.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable

import numpy as np
import torch
from outlines_core import Guide, Index, Vocabulary
from outlines_core.json_schema import build_regex_from_schema

from serving.engine import detokenize
from serving.engine.types import BadRequest

SCHEMA_LIMIT = 16_384  # characters
REGEX_LIMIT = 30_000
KEPT = 32  # automata
BYTE = 6  # "<0x0A>", as vocabularies with byte fallback spell a byte


class Constraint:
    """One answer's way through the automaton; its end token is `end`."""

    def __init__(self, index: Index, size: int, end: int) -> None:
        self._guide, self._size, self.end = Guide(index), size, end
        self._words = np.zeros(-(-size // 32), np.int32)

    def allowed(self) -> torch.Tensor:
        """Which tokens may come next (vocabulary,)."""
        self._words[:] = 0
        self._guide.write_mask_into(self._words.ctypes.data, self._words.size, 4)
        bits = np.unpackbits(self._words.view(np.uint8), bitorder="little")[: self._size]
        return torch.from_numpy(bits.astype(bool))

    def advance(self, token: int) -> None:
        if token != self.end:
            self._guide.advance(token, return_tokens=False)

    @property
    def complete(self) -> bool:
        """Whether nothing but the end may follow."""
        return bool(self._guide.get_tokens() in ([self.end], []))


class Constraints:
    """Makes constraints for one base; thread-safe."""

    def __init__(
        self, vocabulary: detokenize.Vocabulary, size: int, end_tokens: Iterable[int]
    ) -> None:
        self._vocabulary, self._size = vocabulary, size
        # A base without an end token gets one that it never draws: the answer ends by itself.
        self._end = min(end_tokens, default=size)
        self._tokens: Vocabulary | None = None
        self._made: OrderedDict[str, Index] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, schema: str) -> Constraint:
        """A constraint for one answer. Raises BadRequest where the schema cannot be served."""
        with self._lock:
            index = self._made.get(schema)
            if index is None:
                index = self._made[schema] = self._compile(schema)
                while len(self._made) > KEPT:
                    self._made.popitem(last=False)
            self._made.move_to_end(schema)
        return Constraint(index, self._size, self._end)

    def _compile(self, schema: str) -> Index:
        if len(schema) > SCHEMA_LIMIT:
            raise BadRequest(f"The JSON schema is longer than {SCHEMA_LIMIT} characters.")
        try:
            if not isinstance(json.loads(schema), dict):
                raise BadRequest("The JSON schema is not an object.")
            regex = build_regex_from_schema(schema)
            if len(regex) > REGEX_LIMIT:
                raise BadRequest("The JSON schema is too large to be held to.")
            if self._tokens is None:
                self._tokens = self._read_tokens()
            return Index(regex, self._tokens)
        except (ValueError, TypeError, RecursionError) as error:
            raise BadRequest(f"The JSON schema cannot be held to: {error}") from error

    def _read_tokens(self) -> Vocabulary:
        by_bytes: dict[str | bytes, list[int]] = {}
        for token in range(self._size):
            if token == self._end:
                continue
            data = self._bytes(token)
            if data:
                by_bytes.setdefault(data, []).append(token)
        return Vocabulary(self._end, by_bytes)

    def _bytes(self, token: int) -> bytes:
        vocabulary = self._vocabulary
        if vocabulary.byte_level:
            return vocabulary.token_bytes(token)
        text = None if token in vocabulary.special else vocabulary.tokenizer.id_to_token(token)
        if text is None:
            return b""
        if len(text) == BYTE and text.startswith("<0x") and text.endswith(">"):
            return bytes([int(text[3:5], 16)])
        return text.replace("\u2581", " ").encode()
