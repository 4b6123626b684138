"""The worker of the queue `external`: asks servers elsewhere, and shows and charges as others do.

Imported by tasks alone; brings no torch. A thread waits for each answer, so one process has many.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import closing
from uuid import UUID

from django.utils import timezone

from accounts import leases
from accounts.ids import uuid7
from modelfactory.models import BaseModel
from serving import carrying, streams
from serving.engine.types import EngineError, Finish
from serving.external import adapters, bodies, routing
from serving.external.client import AdapterGone, Call, ReplicaError, RequestRefused
from serving.external.reading import Reading
from serving.models import Completion, Deployment, Pin, Replica
from serving.prompts import tokenizer_of
from serving.services import deployments, pins, replicas
from serving.services.running import Answer
from serving.turns import Turns, wake
from serving.watching import Watched

logger = logging.getLogger(__name__)

# Requests of one key that this process asks together; its other threads are kept for others.
MAX_ACTIVE = int(os.environ.get("EXTERNAL_MAX_ACTIVE", "48"))


class TurnsElsewhere(Turns):
    """Takes nothing more of a base that engines here have taken over, as its servers fail."""

    def following(self, completion_id: UUID) -> UUID | None:
        base = BaseModel.objects.get(deployments__completions=completion_id)
        if routing.queue_of(base, at=timezone.now()) != routing.QUEUE:
            return None
        return super().following(completion_id)


_turns = TurnsElsewhere(most=MAX_ACTIVE)


def run_completion(completion_id: UUID) -> None:
    """Answer by a server elsewhere: this completion, or whatever is next in turn."""
    carrying.carry_in_turn(completion_id, answer, _turns)


def load_deployment(deployment_id: UUID) -> None:
    """Have a replica load what a deployment needs, then say that it is live, or why it is not."""
    owner = f"{leases.worker_name()}:{uuid7()}"
    deployment = deployments.claim_loading(
        deployment_id=deployment_id, owner=owner, at=timezone.now()
    )
    if deployment is None:
        return
    reason = "No server of this base can be asked."
    with carrying.watcher.watch(Watched(Deployment, deployment_id, owner)):
        for replica in _candidates(deployment):
            try:
                adapters.ensure(replica, deployment)
            except (ReplicaError, OSError) as error:
                reason = f"{replica.name}: {error}"
                logger.warning("deployment %s: %s", deployment.name, reason)
            else:
                deployments.mark_live(deployment_id=deployment_id, at=timezone.now())
                return
    deployments.refuse(deployment_id=deployment_id, reason=reason, at=timezone.now())


def keep_pins(base_id: UUID) -> None:
    """Have what is pinned of a base loaded on the replica that it belongs to."""
    found = Pin.objects.in_force(timezone.now()).filter(deployment__base_model=base_id)
    for pin in found.select_related("deployment__base_model", "deployment__model"):
        for replica in _candidates(pin.deployment):
            try:
                adapters.ensure(replica, pin.deployment)
            except (ReplicaError, OSError) as error:
                logger.warning("pin %s on %s: %s", pin.pk, replica.name, error)
            else:
                pins.note_pinned(pin_id=pin.pk, at=timezone.now())
                break


def check_replicas() -> None:
    """Ask each enabled replica how it is, then bring back what is pinned and was dropped.

    What waits though there are places, as after a worker that is gone, gets a message again.
    """
    for replica in Replica.objects.filter(is_enabled=True):
        started = time.monotonic()
        try:
            held = adapters.held_by(replica)
        except ReplicaError as error:
            replicas.note_failing(replica_id=replica.pk, reason=str(error), at=timezone.now())
        else:
            took = round((time.monotonic() - started) * 1_000)
            replicas.note_checked(
                replica_id=replica.pk, answer_ms=took, adapters=held, at=timezone.now()
            )
    for base_id in set(Replica.objects.usable().values_list("base_model", flat=True)):
        keep_pins(base_id)
    slugs = set(Replica.objects.usable().values_list("base_model__slug", flat=True))
    wake(sorted(slugs), MAX_ACTIVE - _turns.running, at=timezone.now(), elsewhere=True)


def answer(completion: Completion, watched: Watched, writer: streams.Writer) -> Answer | None:
    """Ask replicas in their order until one begins to answer; None where the lease was lost.

    Until the first token nobody has seen anything, so a failure is another replica's turn. Raises
    EngineError where none answers, where the request itself is refused, and where an answer breaks
    off.
    """
    if completion.merge is not None:
        # Servers were registered for the base after it was asked.
        raise EngineError("The servers of this base merge no adapters. You were not charged.")
    call = Call()
    watched.engine = call
    for replica in _candidates(completion.deployment):
        if call.cancelled.is_set():
            break
        Completion.objects.filter(pk=completion.pk).update(replica=replica)
        reading = Reading(
            tokenizer_of(completion.deployment.base_model), completion.sampling["max_tokens"]
        )
        try:
            return _ask(completion, replica, call, reading, watched, writer)
        except RequestRefused as error:
            raise EngineError(
                f"The model's server refused this request: {error} You were not charged."
            ) from error
        except (ReplicaError, OSError) as error:
            # For staff alone: it may name addresses and folders, or what the server said of a key.
            reason = str(error)
            logger.warning("replica %s failed: %s", replica.name, reason)
            replicas.note_failed_request(
                replica_id=replica.pk,
                reason=reason,
                is_down=isinstance(error, ReplicaError) and error.is_down,
            )
            if reading.has_begun:
                raise EngineError(
                    "The model's server broke off while it answered. You were not charged."
                ) from error
    if call.cancelled.is_set():
        return Answer([], "", Finish.CANCELLED.value)
    raise EngineError("No server answered for this model. You were not charged; try again shortly.")


def _ask(
    completion: Completion,
    replica: Replica,
    call: Call,
    reading: Reading,
    watched: Watched,
    writer: streams.Writer,
) -> Answer | None:
    deployment = completion.deployment
    client = adapters.client_of(replica)
    name = adapters.ensure(replica, deployment)
    for is_second in (False, True):
        path, body = bodies.request_of(completion, replica, name or replica.served_name)
        streams.close_idle_connection()
        try:
            with closing(client.answer(path, body, call)) as deltas:
                for delta in deltas:
                    begins = not reading.has_begun and bool(delta.ids or delta.text)
                    if begins and not carrying.may_show(completion, watched.owner):
                        return None
                    _show(writer, delta.text, reading.take(delta))
                    if len(reading.told_ids) > reading.most:
                        # It goes on beyond what was asked and held for: nobody reads that.
                        reading.finish_reason = "length"
                        break
            break
        except AdapterGone:
            if is_second or name is None or reading.has_begun:
                raise
            # It was dropped, or the server started anew: what it was told is only advice.
            adapters.forget(replica, name)
            adapters.ensure(replica, deployment)
    replicas.note_answered(
        replica_id=replica.pk,
        usage_differs=not call.cancelled.is_set() and reading.differs(completion.prompt_tokens),
    )
    kept = completion.sampling.get("logprobs")
    ids = reading.ids() if reading.has_begun or reading.finish_reason else []
    return Answer(
        ids,
        reading.text,
        Finish.CANCELLED.value if call.cancelled.is_set() else reading.finish,
        cached_tokens=min(reading.cached_tokens, completion.prompt_tokens),
        logprobs=None if kept is None else {"prompt": [], "answer": reading.places[: len(ids)]},
    )


def _show(writer: streams.Writer, text: str, places: list[object]) -> None:
    """One entry a place, as readers of the stream expect it; the text goes with the first."""
    if not places:
        if text:
            writer.text(text)
        return
    writer.text(text, places[0])
    for place in places[1:]:
        writer.text("", place)


def _candidates(deployment: Deployment) -> list[Replica]:
    name = adapters.name_of(deployment)
    found = routing.standings(deployment.base_model, name)
    streams.close_idle_connection()
    return [one.replica for one in found]
