"""Scoring an answer once more, as the attribute worker does it. This module brings torch."""

from __future__ import annotations

import logging
from dataclasses import replace
from uuid import UUID

from django.utils import timezone

from accounts import leases
from accounts.ids import uuid7
from attribution import workers
from attribution.bodies import Evidence
from attribution.influence.errors import InfluenceError
from attribution.models import Attribution, Index, Receipt, Rescoring
from attribution.rescored_bodies import texts_fit
from attribution.services import rescorings
from attribution.services.indexes import IN_WORK
from attribution.services.rescorings import CannotRescoreError
from attribution.texts import Texts, texts_of
from datanets.services.lifelines import lifeline

logger = logging.getLogger(__name__)


def rescore(rescoring_id: UUID) -> None:
    """Claim, score and write; waits where the model's index is not ready."""
    waiting = Rescoring.objects.select_related("receipt").filter(pk=rescoring_id).first()
    if waiting is None or not _has_index(waiting):
        return
    owner = f"{leases.worker_name()}:{uuid7()}"
    row = rescorings.claim(rescoring_id=rescoring_id, owner=owner, at=timezone.now())
    if row is None:
        return
    try:
        with lifeline(Rescoring, row.pk, owner=owner):
            texts = texts_to_score(row.receipt)
            evidence = _evidence(row.receipt, texts)
            rescorings.write_rescored(
                rescoring_id=row.pk,
                owner=owner,
                evidence=evidence,
                texts=texts,
                at=timezone.now(),
            )
    except (CannotRescoreError, InfluenceError) as error:
        logger.warning("rescoring %s failed: %s", row.pk, error)
        rescorings.fail(row.pk, str(error), timezone.now(), owner)
    except Exception as error:
        logger.exception("rescoring %s failed", row.pk)
        reason = f"The worker failed ({type(error).__name__}). Look at its log, then try again."
        rescorings.fail(row.pk, reason, timezone.now(), owner)


def texts_to_score(receipt: Receipt) -> Texts:
    """What was asked and answered.

    Raises CannotRescoreError unless they are what the receipt was written for.
    """
    texts = texts_of(receipt.completion_id)
    if texts is None:
        raise CannotRescoreError("Nobody keeps the question and the answer of this receipt.")
    if not receipt.private or not texts_fit(receipt, texts.prompt, texts.answer):
        raise CannotRescoreError("The texts that are kept are not those that the receipt names.")
    return texts


def _evidence(receipt: Receipt, texts: Texts) -> Evidence:
    evidence = workers.find_evidence(
        Attribution(
            completion_id=receipt.completion_id,
            model=receipt.model,
            prompt=texts.prompt,
            answer=texts.answer,
            prompt_ids=texts.prompt_ids,
            answer_ids=texts.answer_ids,
        )
    )
    if not evidence.index_root:
        raise CannotRescoreError("Every record of the model was withdrawn: nothing to score by.")
    # Passages and the prompt's tokens pay nothing; those of the first receipt stand.
    return replace(evidence, found=None, prompt_method=None)


def _has_index(row: Rescoring) -> bool:
    """Whether scoring can start; otherwise look again later."""
    index = Index.objects.filter(model=row.receipt.model_id).first()
    if row.state == Rescoring.State.QUEUED and index is not None and index.state in IN_WORK:
        rescorings.wait_for_index(rescoring_id=row.pk, at=timezone.now())
        return False
    return True
