"""Which replica answers a request: one that has the adapter and is free, else the best next."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from django.db.models import Count, Q

from accounts.compiled import Compiled
from accounts.workers import names_of_live_workers
from modelfactory.models import BaseModel
from serving.models import CompletionState, Replica, ReplicaAdapter, ReplicaKind

QUEUE = "external"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a replica stands for one adapter at this moment."""

    replica: Replica
    running: int
    adapters: int
    has_adapter: bool

    @property
    def is_free(self) -> bool:
        return self.running < self.replica.slots

    @property
    def is_full(self) -> bool:
        """Loading one more adapter drops another."""
        return self.adapters >= self.replica.max_adapters


def queue_of(base: BaseModel, *, at: datetime) -> str:
    """The queue whose workers answer for this base: a server elsewhere goes before an engine here.

    Where all servers fail and an engine here has the base, it answers.
    """
    own = f"generate.{base.slug}"
    states = [state for (state,) in _STATES.rows(base=base.pk)]
    if not states:
        return own
    if all(state == "FAILING" for state in states):
        return own if names_of_live_workers(queue=own, at=at) else QUEUE
    return QUEUE


_STATES = Compiled(
    lambda base: Replica.objects.filter(base_model=base, is_enabled=True).values_list("state")
)


def standings(base: BaseModel, adapter: str | None) -> list[Standing]:
    """Those that may be asked, the best first; see `order`."""
    running = Count("completions", filter=Q(completions__state=CompletionState.RUNNING))
    found = list(Replica.objects.usable().filter(base_model=base).annotate(running=running))
    held: dict[UUID, set[str]] = {one.pk: set() for one in found}
    for replica_id, name in ReplicaAdapter.objects.filter(replica__in=found).values_list(
        "replica_id", "name"
    ):
        held[replica_id].add(name)
    made = [Standing(one, one.running, len(held[one.pk]), adapter in held[one.pk]) for one in found]
    return order(made, adapter)


def order(found: Collection[Standing], adapter: str | None) -> list[Standing]:
    """Free ones with the adapter; free ones with room for it; free ones; then the busy ones.

    Among equals an adapter has an order of its own (rendezvous hashing), so that it comes back to
    the same server and servers divide the adapters between them; the base goes to the least busy.
    """

    def place(one: Standing) -> tuple[bool, bool, bool, float, bytes]:
        if adapter is None:
            load = one.running / one.replica.slots
            return not one.is_free, False, False, load, one.replica.pk.bytes
        # A server that loads nothing has an adapter only if it was started with it.
        strange = not one.has_adapter
        rank = sha256(f"{adapter}:{one.replica.pk}".encode()).digest()
        return not one.is_free, strange, strange and one.is_full, 0.0, rank

    loads = ReplicaKind.VLLM
    able = [one for one in found if adapter is None or one.has_adapter or one.replica.kind == loads]
    return sorted(able, key=place)


def refuses(base: BaseModel, *, logprobs: bool, prompt_logprobs: bool, at: datetime) -> str:
    """Why those who answer for this base cannot tell these probabilities; "" where they can."""
    if not (logprobs or prompt_logprobs) or queue_of(base, at=at) != QUEUE:
        return ""
    if prompt_logprobs:
        return "The servers of this model do not tell a prompt's probabilities; ask without echo."
    if Replica.objects.usable().filter(base_model=base).exclude(kind=ReplicaKind.VLLM).exists():
        return "The servers of this model do not tell the probabilities of tokens."
    return ""
