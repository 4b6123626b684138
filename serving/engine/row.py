"""One running request: its place in its answer, and the way of its tokens to the caller."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING

from serving.engine.detokenize import StopStrings, Vocabulary
from serving.engine.sampling import Sampler
from serving.engine.types import EngineError, Finish, Logprob, Request, Token

if TYPE_CHECKING:
    from serving.engine.constraint import Constraint


class Row:
    """Written by the scheduler's thread alone, but for `cancelled`."""

    def __init__(
        self,
        request: Request,
        adapter: object | None,
        vocabulary: Vocabulary,
        context: int,
        constraint: Constraint | None = None,
    ) -> None:
        self.request = request
        self.adapter = adapter  # what the backend made of it
        self.sampler = Sampler(request, constraint)
        self.slot = -1  # the row's place in the backend
        self.begun = 0.0  # when it was let in, of the monotonic clock
        self.pages: list[int] = []
        self.names: list[bytes] = []  # of full pages
        self.length = 0  # tokens in the cache
        self.cached = 0  # of them, found there
        self.piece = 1  # tokens of the next step
        self.tokens = list(request.input_ids)
        self.cancelled = False
        self.prompt_logprobs: list[Logprob] = []
        # None says that the step begins which draws the first token.
        self.out: SimpleQueue[Token | EngineError | None] = SimpleQueue()
        self.ended = threading.Event()
        self.is_due = False
        self._prompt = len(request.input_ids)
        self._allowed = min(request.max_tokens, context - self._prompt)
        self._text = vocabulary.stream()
        self._stops = StopStrings(request.stop)

    @property
    def most(self) -> int:
        """Tokens that it may ever hold in the cache; the last one drawn is never put there."""
        return self._prompt + self._allowed - 1

    def is_over(self, now: float) -> bool:
        """Whether it was taken back, or its time is up."""
        deadline = self.request.deadline
        return self.cancelled or (deadline is not None and deadline <= now)

    @property
    def prefilled(self) -> bool:
        return self.length >= self._prompt

    def announce(self) -> None:
        """Tell the caller, once, that the step begins which draws the first token."""
        if not self.is_due:
            self.is_due = True
            self.out.put(None)

    def take(self, token: int, end_tokens: frozenset[int], logprob: Logprob | None = None) -> bool:
        """Hand a drawn token on; returns whether it was the last."""
        self.tokens.append(token)
        if token in self.request.stop_ids or (token in end_tokens and not self.request.ignore_end):
            self.finish(token, Finish.STOP, logprob=logprob)
            return True
        text, stopped = self._stops.push(self._text.push(token))
        if stopped:
            self._put(token, text, Finish.STOP, logprob)
            return True
        if self.sampler.complete:
            self.finish(token, Finish.STOP, text, logprob)
            return True
        if len(self.tokens) - self._prompt >= self._allowed:
            self.finish(token, Finish.LENGTH, text, logprob)
            return True
        self._put(token, text, None, logprob)
        return False

    def finish(
        self, token: int | None, reason: Finish, text: str = "", logprob: Logprob | None = None
    ) -> None:
        """The last token, with all text that was held back up to a stop string."""
        rest, stopped = self._stops.push(self._text.flush())
        text += rest if stopped else rest + self._stops.flush()
        self._put(token, text, Finish.STOP if stopped else reason, logprob)

    def fail(self, error: EngineError) -> None:
        self.out.put(error)
        self.ended.set()

    def _put(
        self, token: int | None, text: str, reason: Finish | None, logprob: Logprob | None
    ) -> None:
        self.out.put(Token(token, text, reason, logprob, time.perf_counter()))
        if reason is not None:
            self.ended.set()


class TokenStream(Iterator[Token]):
    """The tokens of one request. For one consumer; closing it early cancels the request."""

    def __init__(self, row: Row, cancel: Callable[[str], None]) -> None:
        self._row = row
        self._cancel = cancel
        self._ended = False
        self._next: Token | EngineError | None = None

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that the cache had; known with the first token."""
        return self._row.cached

    @property
    def prompt_logprobs(self) -> tuple[Logprob, ...]:
        """Of the prompt's tokens but the first, where they were asked for; with the first token."""
        return tuple(self._row.prompt_logprobs)

    @property
    def has_more(self) -> bool:
        """Whether the next token is there already: its consumer is slower than the engine."""
        return not self._row.out.empty()

    def gather(self, seconds: float) -> None:
        """Let tokens gather for so long, or until the last one is there. Meanwhile this thread is
        not woken for each, which takes the interpreter's lock from the scheduler's."""
        self._row.ended.wait(seconds)

    def is_about_to_begin(self) -> bool:
        """Wait for the step that draws the first token, which is computed meanwhile; False where
        the request has ended before it. For who has something to do before a token is shown."""
        self._next = self._row.out.get()
        return self._next is None

    def __iter__(self) -> TokenStream:
        return self

    def __next__(self) -> Token:
        if self._ended:
            raise StopIteration
        item, self._next = self._next, None
        while item is None:
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
