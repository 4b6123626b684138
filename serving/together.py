"""One transaction for threads that end at the same moment (a group commit).

Who comes when nobody works does its own work at once, alone: a single completion waits for nothing.
Who comes meanwhile is taken together with all others that wait, in one go, by the first of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
AT_ONCE = 64


class Together(Generic[T, R]):
    """Callable by any thread; `work` gives a result for each item, or raises for all of them.

    What raises for several is done again one by one, so that each thread gets its own error.
    """

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R]], *, at_once: int = AT_ONCE):
        self._work = work
        self._at_once = at_once
        self._lock = threading.Lock()
        self._waiting: list[_Waiting[T, R]] = []
        self._is_busy = False

    def __call__(self, item: T) -> R:
        """The result for `item`. Raises what `work` raises for it alone."""
        mine = _Waiting[T, R](item)
        with self._lock:
            self._waiting.append(mine)
            leads = not self._is_busy
            self._is_busy = True
        if not leads:
            mine.turn.wait()
        if not mine.is_done:
            self._lead()
        return mine.get()

    def _lead(self) -> None:
        """Work for the first ones that wait, then hand over to the next."""
        with self._lock:
            batch, self._waiting = self._waiting[: self._at_once], self._waiting[self._at_once :]
        try:
            self._do(batch)
        finally:
            with self._lock:
                following = self._waiting[:1]
                self._is_busy = bool(following)
            for one in (*batch, *following):
                one.turn.set()

    def _do(self, batch: Sequence[_Waiting[T, R]]) -> None:
        try:
            results = self._work([one.item for one in batch])
        except BaseException as error:
            if len(batch) == 1 or not isinstance(error, Exception):
                for one in batch:
                    one.fail(error)
                return
            for one in batch:
                self._do([one])
            return
        for one, result in zip(batch, results, strict=True):
            one.succeed(result)


class _Waiting(Generic[T, R]):
    def __init__(self, item: T) -> None:
        self.item = item
        self.turn = threading.Event()
        self.is_done = False
        self._result: list[R] = []
        self._error: BaseException | None = None

    def succeed(self, result: R) -> None:
        self._result, self.is_done = [result], True

    def fail(self, error: BaseException) -> None:
        self._error, self.is_done = error, True

    def get(self) -> R:
        if self._error is not None:
            raise self._error
        return self._result[0]
