"""One running request: its place in its answer, and the way of its tokens to the caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import SimpleQueue

from serving.engine.adapters import Adapter
from serving.engine.detokenize import StopStrings, Vocabulary
from serving.engine.sampling import Sampler
from serving.engine.types import EngineError, Finish, Request, Token


class Row:
    """Written by the scheduler thread alone, but for `cancelled`."""

    def __init__(
        self, request: Request, adapter: Adapter | None, vocabulary: Vocabulary, context: int
    ) -> None:
        self.request = request
        self.adapter = adapter
        self.sampler = Sampler(request.temperature, request.top_p, request.seed)
        self.length = 0  # tokens in the cache
        self.last_token = request.input_ids[-1]
        self.cancelled = False
        self.out: SimpleQueue[Token | EngineError] = SimpleQueue()
        self._drawn = 0
        self._allowed = min(request.max_tokens, context - len(request.input_ids))
        self._text = vocabulary.stream()
        self._stops = StopStrings(request.stop)

    def take(self, token: int, end_tokens: frozenset[int]) -> bool:
        """Hand a drawn token on; returns whether it was the last."""
        self.last_token = token
        self._drawn += 1
        if token in end_tokens:
            self.finish(token, Finish.STOP)
            return True
        text, stopped = self._stops.push(self._text.push(token))
        if stopped:
            self.out.put(Token(token, text, Finish.STOP))
            return True
        if self._drawn >= self._allowed:
            self.finish(token, Finish.LENGTH, text)
            return True
        self.out.put(Token(token, text))
        return False

    def finish(self, token: int | None, reason: Finish, text: str = "") -> None:
        """The last token, with all text that was held back up to a stop string."""
        rest, stopped = self._stops.push(self._text.flush())
        text += rest if stopped else rest + self._stops.flush()
        self.out.put(Token(token, text, Finish.STOP if stopped else reason))

    def fail(self, error: EngineError) -> None:
        self.out.put(error)


class TokenStream(Iterator[Token]):
    """The tokens of one request. For one consumer; closing it early cancels the request."""

    def __init__(self, row: Row, cancel: Callable[[str], None]) -> None:
        self._row = row
        self._cancel = cancel
        self._ended = False

    def __iter__(self) -> TokenStream:
        return self

    def __next__(self) -> Token:
        if self._ended:
            raise StopIteration
        item = self._row.out.get()
        if isinstance(item, EngineError):
            self._ended = True
            raise item
        self._ended = item.finish_reason is not None
        return item

    def close(self) -> None:
        if not self._ended:
            self._ended = True
            self._cancel(self._row.request.request_id)

    def __enter__(self) -> TokenStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
