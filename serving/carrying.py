"""Carrying one request from its claim to its charge, whatever computes the answer. No torch here.

What answers is handed in: this process's engine (`workers`) or a server elsewhere (`external`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from uuid import UUID

from django.utils import timezone

from accounts import leases
from accounts.ids import uuid7
from serving import streams
from serving.engine.types import EngineError
from serving.giving_way import GivingWay
from serving.models import Completion
from serving.services import running
from serving.services.running import Answer, Ended
from serving.together import Together
from serving.turns import Turns
from serving.watching import Watched, Watcher

logger = logging.getLogger(__name__)

# Shows the tokens as they come; None where the lease was lost. Raises EngineError.
Answering = Callable[[Completion, Watched, streams.Writer], Answer | None]

watcher = Watcher()
# Answers of one engine often end in the same step.
_charge: Together[Ended, Completion | None] = Together(
    lambda ended: running.settle_many(ended=ended, at=timezone.now())
)


def carry_in_turn(
    completion_id: UUID, answering: Answering, turns: Turns, way: GivingWay | None = None
) -> None:
    """Answer what is next when the message of this completion came, and so on while there is more.

    Which one that is `turns` says; a message is no promise to the request that it names. What
    can wait does while its asker gives way.
    """
    chosen = turns.first(completion_id)
    while chosen is not None:
        carry(chosen, answering, turns, way)
        if way is not None:
            way.wait()
        chosen = turns.following(completion_id)


def carry(
    completion_id: UUID,
    answering: Answering,
    turns: Turns | None = None,
    way: GivingWay | None = None,
) -> None:
    """Claim, answer, charge. Called once for each message; only the claim's winner works."""
    owner = f"{leases.worker_name()}:{uuid7()}"
    completion = None
    try:
        completion = running.claim(completion_id=completion_id, owner=owner, at=timezone.now())
    finally:
        # Also where the database was away: a place that is never given back is lost for ever.
        if completion is None and turns is not None:
            turns.missed()
    if completion is None:
        return
    with turns.taken(completion) if turns is not None else nullcontext():
        _carry(completion, owner, answering, way)


def _carry(completion: Completion, owner: str, answering: Answering, way: GivingWay | None) -> None:
    completion_id = completion.pk
    writer = streams.Writer(completion_id)
    try:
        if completion.attempts > 1:
            writer.begin()
        watched = Watched(Completion, completion_id, owner, completion.deadline)
        with watcher.watch(watched):
            answer = answering(completion, watched, writer)
        if answer is not None:
            if way is not None:
                way.wait(completion.payer_id)
            # What costs nothing gives its hold back, which touches accounts in an order of its own.
            settle = _charge if answer.ids else _settle_alone
            settle(Ended(completion_id, owner, answer))
    except EngineError as error:
        running.fail(completion_id=completion_id, owner=owner, reason=str(error), at=timezone.now())
    except Exception as error:
        logger.exception("completion %s failed", completion_id)
        reason = f"The worker failed ({type(error).__name__}). You were not charged."
        running.fail(completion_id=completion_id, owner=owner, reason=reason, at=timezone.now())
    writer.end()


def may_show(completion: Completion, owner: str) -> bool:
    """Ask before the first token is shown; False where the lease was lost."""
    shown = running.note_first_token(completion_id=completion.pk, owner=owner, at=timezone.now())
    streams.close_idle_connection()
    return shown


def _settle_alone(ended: Ended) -> Completion | None:
    return running.settle_many(ended=[ended], at=timezone.now())[0]
