"""Whose request a worker takes next, so that one key's flood is not another's wait.

A message of the broker only says that something waits. While few are being answered its own request
is taken; beyond that the next one is of whoever has the fewest running here (person, then key, then
age), and a key has at most `most` of the worker's places: the rest are kept for others. A thread
that is done takes the next in turn, whatever the order of the messages was.

Where another worker took messages that it had no place for, `wake` sends new ones, so that a worker
with places left gets them.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection
from django.utils import timezone

from modelfactory.models import BaseModel
from serving.external.routing import QUEUE, queue_of
from serving.models import Completion, CompletionState
from serving.services.completions import enqueue

logger = logging.getLogger(__name__)

EVERY_SECONDS = 0.5
# A message is under way for so long at most, before one is sent in its place.
ON_ITS_WAY = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Asker:
    """A key of a person; None is the playground."""

    payer: UUID
    key: UUID | None


class Turns:
    """For all threads of one process."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._total = 0
        # Let in and not claimed yet, so nobody knows whose they are: they count for every key.
        self._starting = 0
        self._of_key: Counter[Asker] = Counter()
        self._of_payer: Counter[UUID] = Counter()

    @property
    def running(self) -> int:
        return self._total

    def has(self, payer: UUID) -> bool:
        """Whether one of theirs is being answered."""
        return payer in self._of_payer

    def most_of(self, fewest: int) -> UUID | None:
        """Who has half of what is being answered, or more, and at least `fewest`."""
        with self._lock:
            for payer, count in self._of_payer.most_common(1):
                if count >= fewest and 2 * count >= self._total:
                    return payer
        return None

    def first(self, completion_id: UUID) -> UUID | None:
        """What to claim when the message of this completion came; None for nothing now."""
        with self._lock:
            if self._total + self._starting < self.most:
                self._starting += 1
                return completion_id
        return self.following(completion_id)

    def following(self, completion_id: UUID) -> UUID | None:
        """What to claim next on the base of this completion; None where all have their share."""
        waiting = (
            Completion.objects.filter(
                state=CompletionState.HELD,
                deployment__base_model__deployments__completions=completion_id,
            )
            .order_by("payer_id", "api_key_id", "id")
            .distinct("payer_id", "api_key_id")
            .values_list("id", "payer_id", "api_key_id")
        )
        found = [(Asker(payer, key), pk) for pk, payer, key in waiting]
        with self._lock:
            able = [one for one in found if self._of_key[one[0]] + self._starting < self.most]
            if not able:
                return None
            self._starting += 1
            return min(able, key=self._rank)[1]

    def missed(self) -> None:
        """What was to be claimed is another's."""
        with self._lock:
            self._starting -= 1

    @contextmanager
    def taken(self, completion: Completion) -> Iterator[None]:
        """Count a completion that was claimed while this process answers it."""
        asker = Asker(completion.payer_id, completion.api_key_id)
        with self._lock:
            self._starting -= 1
            self._count(asker, 1)
        try:
            yield
        finally:
            with self._lock:
                self._count(asker, -1)

    def _rank(self, one: tuple[Asker, UUID]) -> tuple[int, int, bytes]:
        asker, pk = one
        return self._of_payer[asker.payer], self._of_key[asker], pk.bytes

    def _count(self, asker: Asker, change: int) -> None:
        self._total += change
        self._of_key[asker] += change
        self._of_payer[asker.payer] += change
        if not self._of_key[asker]:
            del self._of_key[asker]
        if not self._of_payer[asker.payer]:
            del self._of_payer[asker.payer]


class Waker:
    """One thread of a worker's process, which looks for what waits though there are places."""

    def __init__(self, turns: Turns, bases: Callable[[], Sequence[str]]) -> None:
        self._turns, self._bases = turns, bases
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="waker", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(EVERY_SECONDS):
            places = self._turns.most - self._turns.running
            if places <= 0:
                continue
            try:
                wake(self._bases(), places, at=timezone.now())
            except Exception:
                # A lost database must not end the thread: the next look tries again.
                logger.warning("looking for what waits failed", exc_info=True)
            connection.close()


def wake(bases: Sequence[str], places: int, *, at: datetime, elsewhere: bool = False) -> int:
    """Send messages again for what waits longer than one needs, as many as there are places.

    Only for bases that are answered by engines here, or by servers `elsewhere`: a message for the
    other kind would pile up on a queue whose workers did not ask for it.
    """
    if places <= 0 or not bases:
        return 0
    served = [
        base
        for base in BaseModel.objects.filter(slug__in=bases)
        if (queue_of(base, at=at) == QUEUE) is elsewhere
    ]
    waiting = (
        Completion.objects.filter(
            state=CompletionState.HELD,
            created_at__lt=at - ON_ITS_WAY,
            deployment__base_model__in=served,
        )
        .select_related("deployment__base_model")
        .order_by("id")[:places]
    )
    for completion in waiting:
        enqueue(completion, at, to_anybody=True)
    return len(waiting)
