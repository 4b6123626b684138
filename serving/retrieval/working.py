"""The generate worker's part in retrieval: building a deployment's vectors, and looking up.

Imported by tasks alone: this module brings torch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from typing import Any
from uuid import UUID

from django.utils import timezone

from accounts import leases
from accounts.ids import uuid7
from attribution.learnt import grouped_training_records
from datanets.ingest import payload as payloads
from serving import carrying, streams
from serving.limits import RETRIEVED_RECORDS
from serving.models import Completion, CompletionKind, RetrievalIndex, RetrievalState
from serving.questions import Question
from serving.retrieval.encoders import encoder_for
from serving.retrieval.prompting import with_records, words_of
from serving.retrieval.search import Hit, has_pgvector, nearest
from serving.services import retrieval, running
from serving.watching import Watched

logger = logging.getLogger(__name__)

METHOD, VERSION = "nearest-record", 1
CHUNK = 64
CHARACTERS = 2_000


def build(index_id: UUID) -> None:
    """Make the vectors that are not there yet; a build that broke off goes on where it was."""
    owner = f"{leases.worker_name()}:{uuid7()}"
    index = retrieval.claim(index_id=index_id, owner=owner, at=timezone.now())
    if index is None:
        return
    try:
        with carrying.watcher.watch(Watched(RetrievalIndex, index_id, owner)):
            _build(index, owner)
    except Exception as error:
        logger.exception("retrieval of %s failed", index.deployment_id)
        retrieval.refuse(index_id=index_id, owner=owner, reason=str(error), at=timezone.now())


def _build(index: RetrievalIndex, owner: str) -> None:
    deployment = index.deployment
    encoder = encoder_for(deployment.base_model)
    retrieval.begin(
        index_id=index.pk,
        owner=owner,
        encoder=encoder.name,
        dimensions=encoder.embedder.dimensions,
        total=sum(1 for _ in _texts(index)),
    )
    done = 0
    records = _texts(index)
    while chunk := list(islice(records, CHUNK)):
        made = set(index.vectors.filter(record__in=[pk for pk, _, _ in chunk]).values_list(
            "record_id", flat=True
        ))  # fmt: skip
        wanted = [one for one in chunk if one[0] not in made]
        vectors = encoder.vectors([text for _, _, text in wanted])
        done += len(chunk)
        lines = [
            (pk, group, [float(one) for one in vector])
            for (pk, group, _), vector in zip(wanted, vectors, strict=True)
        ]
        if not retrieval.add(index_id=index.pk, owner=owner, lines=lines, done=done):
            return
    retrieval.finish(index_id=index.pk, owner=owner, at=timezone.now())


def _texts(index: RetrievalIndex) -> Iterator[tuple[UUID, str, str]]:
    model = index.deployment.model
    assert model is not None  # A base's retrieval cannot be switched on.
    for record, group in grouped_training_records(model):
        yield record.record_id, str(group), payloads.excerpt(record.payload, CHARACTERS)


def put_records(completion: Completion, owner: str) -> None:
    """Put the nearest records into the prompt of a claimed completion, once.

    Nothing changes where retrieval was switched off meanwhile, or nothing fits. The completion is
    answered without records where looking up fails: it costs less then, and says so.
    """
    if not completion.retrieval_tokens or completion.retrieval is not None:
        return
    try:
        found = _found(completion)
    except Exception:
        logger.exception("retrieval for %s failed", completion.pk)
        found = None
    running.note_retrieved(completion=completion, owner=owner, found=found)


def _found(completion: Completion) -> running.Retrieved | None:
    deployment = completion.deployment
    index = RetrievalIndex.objects.filter(deployment=deployment, state=RetrievalState.READY).first()
    encoder = encoder_for(deployment.base_model) if index else None
    if index is None or encoder is None or encoder.name != index.encoder:
        return None
    question = Question(
        CompletionKind(completion.kind), messages=completion.messages, text=completion.prompt
    )
    words = words_of(question)
    streams.close_idle_connection()
    vector = encoder.vectors([words])[0]
    hits = nearest(index=index, vector=vector, reader=completion.payer, most=RETRIEVED_RECORDS)
    texts = retrieval.texts_of([hit.record_id for hit in hits], CHARACTERS)
    made = with_records(
        question,
        [texts[hit.record_id] for hit in hits],
        deployment.base_model,
        most=completion.prompt_tokens + completion.retrieval_tokens,
    )
    if made is None:
        return None
    prompt, count = made
    return running.Retrieved(prompt.text, prompt.ids, _stated(index, encoder.name, hits[:count]))


def _stated(index: RetrievalIndex, encoder: str, hits: list[Hit]) -> dict[str, Any]:
    return {
        "method": {
            "method": METHOD,
            "version": VERSION,
            "encoder": encoder,
            "search": "pgvector" if has_pgvector() else "numpy",
            "most": RETRIEVED_RECORDS,
        },
        "records": [
            {"record": str(hit.record_id), "group": hit.group, "distance": f"{hit.distance:.6f}"}
            for hit in hits
        ],
    }
