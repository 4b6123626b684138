"""The generate worker's part in vectors: the base once more, without its head, when first asked.

Imported by tasks alone: this module brings torch.
"""

from __future__ import annotations

import logging
import threading
from uuid import UUID

from django.utils import timezone

from accounts import leases
from accounts.ids import uuid7
from modelfactory.models import BaseModel
from modelfactory.training.devices import choose_device
from serving import carrying, streams
from serving.engine.embedding import Embedder
from serving.models import Embedding
from serving.services import embeddings
from serving.watching import Watched

logger = logging.getLogger(__name__)

_embedders: dict[str, Embedder] = {}
_lock = threading.Lock()
# One computes while the other reads and charges. By the base's id.
PLACES = 2
_places: dict[UUID, threading.BoundedSemaphore] = {}


def embedder_for(base: BaseModel) -> Embedder:
    """The process's embedder of this base, loaded by the first who needs it."""
    with _lock:
        if base.slug not in _embedders:
            device, _ = choose_device()
            _embedders[base.slug] = Embedder(base.path, device=device)
        return _embedders[base.slug]


def run_embedding(embedding_id: UUID) -> None:
    """Answer what this message names, then what else waits, whoever asked for it.

    Few threads do so for a base at the same time: its embedder computes one request after
    another, and the other threads are for answers. A message that finds no place is dropped.
    """
    base = Embedding.objects.values_list("deployment__base_model", flat=True).get(pk=embedding_id)
    places = _places.setdefault(base, threading.BoundedSemaphore(PLACES))
    chosen: UUID | None = embedding_id
    while chosen is not None and places.acquire(blocking=False):
        try:
            _run(chosen)
        finally:
            places.release()
        # After the place was given back, so that what was dropped meanwhile is seen here.
        chosen = embeddings.following(embedding_id=chosen)


def _run(embedding_id: UUID) -> None:
    """Claim, compute, charge; only the claim's winner works."""
    owner = f"{leases.worker_name()}:{uuid7()}"
    made = embeddings.claim(embedding_id=embedding_id, owner=owner, at=timezone.now())
    if made is None:
        return
    streams.close_idle_connection()
    try:
        with carrying.watcher.watch(Watched(Embedding, embedding_id, owner)):
            found = embedder_for(made.deployment.base_model).vectors(made.inputs)
        embeddings.settle(
            embedding_id=embedding_id,
            owner=owner,
            vectors=found.astype("<f4").tobytes(),
            dimensions=found.shape[1],
            at=timezone.now(),
        )
    except Exception as error:
        logger.exception("embedding %s failed", embedding_id)
        reason = f"The worker failed ({type(error).__name__}). You were not charged."
        embeddings.fail(embedding_id=embedding_id, owner=owner, reason=reason, at=timezone.now())
    streams.Writer(embedding_id).end()
