"""Which tokens a step computes, and what becomes of its logits.

Each turn computes one token for every running row and a piece of the prompts that are being taken
in, in one step of the backend, so that a long prompt does not stop the others. A row gets all pages
that it may need when it is let in: it is never thrown out again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from serving.engine.backend import Backend, Batch
from serving.engine.base import Base
from serving.engine.pages import Pages, names_of
from serving.engine.row import Row
from serving.engine.sampling import logprob_of
from serving.engine.types import EngineClosed, EngineError, Finish
from serving.engine.waiting import LONGEST_WAIT, Waiting

logger = logging.getLogger(__name__)

# Prompt tokens of a turn: few enough that running rows wait for about two steps of their own.
PREFILL_BESIDE = 64
PREFILL_ALONE = 256
# An answer's token against one of a prompt, which shares its step with many.
ANSWER_COST = 2.0
LONGEST_PATIENCE = 0.05


class Scheduler:
    """`turn` is for one thread; what stands under the lock is for all."""

    def __init__(self, backend: Backend, base: Base, max_active: int) -> None:
        self.backend, self.base, self.max_active = backend, base, max_active
        self.pages = Pages(backend.page_count, backend.page_size)
        self.lock = threading.Condition()
        self.waiting = Waiting()
        self.rows: dict[str, Row] = {}
        self.decoding: list[Row] = []
        self.prefilling: list[Row] = []
        self.steps = self.step_rows = self.answered = 0  # since the start
        self._held: tuple[str, float] | None = None  # whose rows stand still, and until when
        self._slots = list(range(max_active - 1, -1, -1))

    @property
    def active(self) -> int:
        return len(self.decoding) + len(self.prefilling)

    def has_work(self) -> bool:
        return bool(len(self.waiting) or self._going(self.decoding) or self._going(self.prefilling))

    def hold(self, owner: str, seconds: float) -> None:
        """Let the rows of `owner` stand still for so long; one owner's at a time."""
        self._held = owner, time.monotonic() + seconds

    def go_on(self) -> None:
        self._held = None

    def patience(self) -> float | None:
        """Seconds to wait for rows that stand still, or until one's deadline is looked at; None
        where none does."""
        held = self._held
        if held is None or not self.active:
            return None
        return min(LONGEST_PATIENCE, max(0.0, held[1] - time.monotonic()))

    def _going(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Those that do not stand still; one that is over goes on to its end."""
        held, now = self._held, time.monotonic()
        if held is None or now >= held[1]:
            return rows
        return [row for row in rows if row.request.owner != held[0] or row.is_over(now)]

    def turn(self) -> None:
        """One step. Whatever happens in it, the thread lives on for the next requests."""
        try:
            self._drop_cancelled()
            self._let_in()
            rows = [*self._going(self.decoding), *self._pieces()]
            if rows:
                self._step(rows)
            elif self.active:
                with self.lock:
                    self.lock.wait(self.patience())
        except Exception as error:
            logger.exception("engine step failed")
            self.fail_all(EngineError(f"The engine failed: {type(error).__name__}."), waiting=False)

    def fail_all(self, error: EngineError, *, waiting: bool = True) -> None:
        for row in [*self.decoding, *self.prefilling]:
            self._end(row, keep=False)
            row.fail(error)
        if waiting:
            with self.lock:
                rest = self.waiting.clear()
                for row in rest:
                    self.rows.pop(row.request.request_id, None)
            for row in rest:
                row.fail(EngineClosed(str(error)))

    def _drop_cancelled(self) -> None:
        now = time.monotonic()
        for row in [row for row in (*self.decoding, *self.prefilling) if row.is_over(now)]:
            self._end(row)
            row.finish(None, Finish.CANCELLED)
        with self.lock:
            dropped = [row for row in self.waiting if row.is_over(now)]
            for row in dropped:
                self.waiting.remove(row)
                self.rows.pop(row.request.request_id, None)
        for row in dropped:
            row.finish(None, Finish.CANCELLED)

    def _let_in(self) -> None:
        while self._slots:
            with self.lock:
                row = self.waiting.first()
                if row is None or not self._give_pages(row):
                    return
                self.waiting.remove(row)
                self.waiting.charge(row.request.owner, len(row.tokens) - row.cached)
            row.slot = self._slots.pop()
            self.backend.place(row.slot, row.pages, row.adapter)
            row.begun = time.monotonic()
            self.prefilling.append(row)

    def _give_pages(self, row: Row) -> bool:
        request = row.request
        if not row.names:
            row.names = names_of(
                row.tokens, self.pages.size, owner=request.owner, adapter=request.adapter
            )
        # A prompt whose probabilities are asked for is computed as a whole.
        known = () if request.prompt_logprobs else row.names
        given = self.pages.begin(known, row.most, len(row.tokens))
        if given is None:
            return False
        row.pages, row.cached = given
        row.length = row.cached
        return True

    def _pieces(self) -> list[Row]:
        """Rows of which a piece of the prompt is computed now; sets how much in `row.piece`."""
        budget = PREFILL_BESIDE if self.decoding else PREFILL_ALONE
        chosen = []
        for row in self._going(self._by_owner()):
            if budget <= 0:
                break
            row.piece = min(budget, len(row.tokens) - row.length)
            budget -= row.piece
            if row.length + row.piece == len(row.tokens):
                row.announce()
            chosen.append(row)
        return chosen

    def _by_owner(self) -> list[Row]:
        """Rows whose prompts are not done: of who has the fewest rows first, then as they came.

        So one prompt is not behind all those that another owner has just begun. A row that has been
        at it for LONGEST_WAIT goes before all, so that a stream of others' never keeps it out.
        """
        if len(self.prefilling) < 2:
            return self.prefilling
        rows = Counter(row.request.owner for row in (*self.decoding, *self.prefilling))
        overdue = time.monotonic() - LONGEST_WAIT
        return sorted(
            self.prefilling, key=lambda row: (row.begun > overdue, rows[row.request.owner])
        )

    def _step(self, rows: Sequence[Row]) -> None:
        try:
            logits = self.backend.forward(self._batch(rows))
        except Exception as error:
            if len(rows) > 1:
                # One row's memory, say, must not be another's failure; a step can be done again.
                for row in rows:
                    self._step([row])
                return
            logger.exception("a row failed")
            self._end(rows[0], keep=False)
            told = EngineError(f"The engine failed: {type(error).__name__}.")
            rows[0].fail(error if isinstance(error, EngineError) else told)
            return
        self.steps += 1
        self.step_rows += len(rows)
        self._emit(rows, logits)

    def _batch(self, rows: Sequence[Row]) -> Batch:
        ids: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        outputs: list[int] = []
        for row in rows:
            end = row.length + row.piece
            if row.request.prompt_logprobs and not row.prefilled:
                outputs += range(len(ids), len(ids) + row.piece)
            elif end == len(row.tokens):
                outputs.append(len(ids) + row.piece - 1)
            ids += row.tokens[row.length : end]
            positions += range(row.length, end)
            slots += [row.slot] * row.piece
        return Batch(*(np.array(one, np.int32) for one in (ids, positions, slots, outputs)))

    def _emit(self, rows: Sequence[Row], logits: torch.Tensor) -> None:
        """Draw a token for each row whose prompt is done."""
        place = 0
        best = logits.argmax(-1).tolist()
        # A sum is finite where all numbers are.
        finite = logits.sum(-1).isfinite().tolist()
        served: dict[str, float] = {}
        for row in rows:
            first = place
            told = row.request.prompt_logprobs and not row.prefilled
            row.length += row.piece
            whole = row.length == len(row.tokens)
            place += row.piece if told else int(whole)
            if not all(finite[first:place]):
                self._end(row, keep=False)
                row.fail(EngineError("The adapter makes the model compute no numbers (NaN)."))
                continue
            if told:
                self._tell_prompt(row, logits[first:place])
            if whole:
                self._draw(row, logits[place - 1], best[place - 1])
                served[row.request.owner] = served.get(row.request.owner, 0.0) + ANSWER_COST
        if served:
            with self.lock:
                for owner, cost in served.items():
                    self.waiting.charge(owner, cost)

    def _draw(self, row: Row, logits: torch.Tensor, best: int) -> None:
        request = row.request
        self.answered += 1
        token = best if request.greedy else row.sampler.choose(logits)
        logprob = None
        if request.logprobs is not None:
            logprob = logprob_of(logits, token, request.logprobs)
        if row.take(token, self.base.end_tokens, logprob):
            self._end(row)
        elif row in self.prefilling:
            self.pages.name(row.pages, row.names)
            self.prefilling.remove(row)
            self.decoding.append(row)
            row.piece = 1

    def _tell_prompt(self, row: Row, logits: torch.Tensor) -> None:
        first = row.length - row.piece
        for place, line in enumerate(logits):
            if first + place + 1 < len(row.request.input_ids):
                token = row.request.input_ids[first + place + 1]
                row.prompt_logprobs.append(logprob_of(line, token, row.request.logprobs or 0))

    def _end(self, row: Row, *, keep: bool = True) -> None:
        """Take a row out; what it computed stays for prompts that begin like it."""
        for rows in (self.decoding, self.prefilling):
            if row in rows:
                rows.remove(row)
        if keep:
            row.names = names_of(
                row.tokens[: row.length],
                self.pages.size,
                owner=row.request.owner,
                adapter=row.request.adapter,
                known=row.names[: row.length // self.pages.size],
            )
            self.pages.name(row.pages, row.names)
        self.pages.end(row.pages)
        self.backend.free(row.slot)
        self._slots.append(row.slot)
        with self.lock:
            self.rows.pop(row.request.request_id, None)
