"""Scoring an answer once more, as the attribute worker does it. This module brings torch."""

from __future__ import annotations

import logging
from dataclasses import replace
from uuid import UUID

from django.utils import timezone

from accounts import leases
from accounts.ids import uuid7
from attribution import learnt, merges, workers
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
            _refuse_failed(row.receipt)
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
            merge=merges.of_body(receipt.public),
        )
    )
    if not any(one.index_root for one in (evidence, *(one.evidence for one in evidence.parents))):
        raise CannotRescoreError(
            "Every record that was learnt from was withdrawn: nothing to score by."
        )
    # Passages and the prompt's tokens pay nothing; those of the first receipt stand.
    return replace(evidence, found=None, prompt_method=None)


def _has_index(row: Rescoring) -> bool:
    """Whether scoring can start; otherwise look again later. Of several models none is scored
    while the index of any is in work."""
    if row.state != Rescoring.State.QUEUED:
        return True
    models = [model.pk for model in rescorings.models_of(row.receipt)]
    if Index.objects.filter(model__in=models, state__in=IN_WORK).exists():
        rescorings.wait_for_index(rescoring_id=row.pk, at=timezone.now())
        return False
    return True


def _refuse_failed(receipt: Receipt) -> None:
    """Raises CannotRescoreError where an index could not be built, though records are left for it:
    the one before it still holds what was withdrawn."""
    models = rescorings.models_of(receipt)
    failed = Index.objects.filter(model__in=models, state=Index.State.FAILED)
    broken = set(failed.values_list("model_id", flat=True))
    for place, model in enumerate(models, 1):
        if model.pk in broken and learnt.has_records(model):
            # By its place, as on the page: not everybody who may ask may know its name.
            which = f"model {place} of this answer" if len(models) > 1 else "the model"
            raise CannotRescoreError(
                f"The index of {which} could not be built. Ask its owner or the staff to look at "
                "why and to have it built again, on its page or by manage.py reattribute; then "
                "try again."
            )
