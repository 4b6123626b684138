"""What the attribute worker does. Imported by tasks alone: this module brings torch."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import torch
from django.conf import settings
from django.utils import timezone

from accounts import leases
from accounts.ids import uuid7
from attribution import (
    averaging,
    foreign,
    index_files,
    learnt,
    merges,
    part_workers,
    passages,
    scorers,
)
from attribution.bodies import Evidence, TopRecord
from attribution.building import Beat, LeaseLostError, adapter_of, turn
from attribution.groups import parse
from attribution.index_files import LostIndexError
from attribution.influence import confidence, prompt_tokens
from attribution.influence.build import build_with
from attribution.influence.config import METHOD_VERSION
from attribution.influence.errors import InfluenceError
from attribution.influence.examples import IndexedExample
from attribution.influence.files import own_folder
from attribution.influence.index import IndexManifest
from attribution.influence.model import AdaptedModel
from attribution.influence.revise import remove
from attribution.models import Attribution, Index
from attribution.part_files import LostFileError
from attribution.services import indexes, receipts, writing
from attribution.services.writing import Scored
from attribution.tidying import tidy_machine
from datanets.clusters import payees_of
from datanets.services.lifelines import lifeline, lifeline_of_all
from modelfactory.models import Model
from modelfactory.training.devices import choose_device
from modelfactory.training.prompts import load_tokenizer, render_example

logger = logging.getLogger(__name__)

TOP_RECORDS = 20
# Receipts of one transaction, and how long the first of them waits for others to be scored.
AT_ONCE = 64
GATHERING = timedelta(milliseconds=250)
# One more forward and backward for each answer; "0" where that is too much.
PROMPT_TOKENS = os.environ.get("ATTRIBUTE_PROMPT_TOKENS", "1") != "0"
THREADS = int(os.environ.get("ATTRIBUTE_THREADS", "1"))


def build_index(index_id: UUID) -> None:
    """Claim and build an index; only the claim's winner works. Waits its turn in the process."""
    with turn() as is_mine:
        if is_mine:
            _claim_and_build(index_id)
        else:
            indexes.wait_for_turn(index_id=index_id, at=timezone.now())


def _claim_and_build(index_id: UUID) -> None:
    owner = f"{leases.worker_name()}:{uuid7()}"
    at = timezone.now()
    state = indexes.claim(index_id=index_id, owner=owner, at=at)
    if state is None:
        return
    try:
        tidy_machine(at=at)
        index = Index.objects.select_related("model__base_model", "model__run").get(pk=index_id)
        # Loading a base model tells nothing of its progress, and takes longer than a lease.
        with lifeline(Index, index_id, owner=owner):
            _build(index, owner, state)
    except LeaseLostError:
        logger.warning("index %s: the lease was lost", index_id)
    except LostFileError as error:
        part_workers.plan_again(index_id, owner, error)
    except (InfluenceError, OSError, ValueError) as error:
        logger.warning("index %s failed: %s", index_id, error)
        indexes.fail(index_id, str(error), timezone.now(), owner)
    except Exception as error:
        logger.exception("index %s failed", index_id)
        reason = f"The worker failed ({type(error).__name__}). Look at its log, then try again."
        indexes.fail(index_id, reason, timezone.now(), owner)


def attribute(attribution_id: UUID) -> None:
    """Claim an attribution, score it, write the receipt. Waits where the index is not ready.

    Where more of the same model wait, they are scored as well, and all are settled in one
    transaction. The first never waits for one that is not there yet, and for others no longer than
    GATHERING.
    """
    waiting = Attribution.objects.filter(pk=attribution_id).first()
    if waiting is None or not _has_index(waiting):
        return
    owner = f"{leases.worker_name()}:{uuid7()}"
    first = receipts.claim(attribution_id=attribution_id, owner=owner, at=timezone.now())
    if first is None:
        return
    with lifeline_of_all(Attribution, owner=owner):
        scored = _score_all(first, owner)
        if scored and not _write(scored, owner) and len(scored) > 1:
            # One of them cannot be written; alone, each says for itself.
            for one in scored:
                _write([one], owner)


def _score_all(first: Attribution, owner: str) -> list[Scored]:
    """The first, and those that wait beside it. What fails is told and left out."""
    scored = _scored(first, owner)
    if first.merge is not None:
        return scored  # others of these models are found by their own messages
    # From here on, since loading an index may take long and nobody else has waited for it.
    until = time.monotonic() + GATHERING.total_seconds()
    while len(scored) < AT_ONCE and time.monotonic() < until:
        beside = receipts.claim_next(model_id=first.model_id, owner=owner, at=timezone.now())
        if beside is None:
            break
        scored += _scored(beside, owner)
    return scored


def _scored(attribution: Attribution, owner: str) -> list[Scored]:
    try:
        return [Scored(attribution.pk, find_evidence(attribution))]
    except LostIndexError:
        # It is built again, or has failed: the next look at it sees to either.
        receipts.begin_again(attribution_id=attribution.pk, owner=owner, at=timezone.now())
        return []
    except Exception as error:
        _fail(attribution.pk, error, owner)
        return []


def _write(scored: Sequence[Scored], owner: str) -> bool:
    """Whether they were written; where not, one that is alone has failed."""
    try:
        writing.write_receipts(owner=owner, scored=scored, at=timezone.now())
    except Exception as error:
        if len(scored) == 1:
            _fail(scored[0].attribution_id, error, owner)
        return False
    return True


def _fail(attribution_id: UUID, error: Exception, owner: str) -> None:
    if isinstance(error, InfluenceError):
        logger.warning("attribution %s failed: %s", attribution_id, error)
        reason = str(error)
    else:
        logger.error("attribution %s failed", attribution_id, exc_info=error)
        reason = f"The worker failed ({type(error).__name__}). Look at its log, then try again."
    receipts.fail(attribution_id, reason, timezone.now(), owner)


def find_evidence(attribution: Attribution) -> Evidence:
    """Integer influences of an answer. Raises InfluenceError."""
    models = merges.models_of(attribution)
    alone = [_evidence_of(model, attribution) for model in models]
    if attribution.merge is not None:
        whole = merges.together(attribution, models, alone, TOP_RECORDS)
    else:
        whole = alone[0] if alone else Evidence()
    has_index = whole.index_root or any(one.index_root for one in alone)
    return replace(whole, found=passages.find(attribution)) if has_index else whole


def _evidence_of(model: Model, attribution: Attribution) -> Evidence:
    """What its model's index says of an answer, without passages."""
    row = Index.objects.get(model=model)
    if row.state == Index.State.FAILED:
        has_records = learnt.has_records(model)
        # All were withdrawn, so nobody is left to credit; or others have waited long enough.
        if not has_records or receipts.waits_no_longer(attribution, at=timezone.now()):
            return Evidence(
                counts=learnt.records_by_group(model),
                has_answer=bool(attribution.answer_ids),
                has_index=not has_records,
            )
    scorer = scorers.scorer_for(row, model)
    manifest = scorer.index.manifest
    method = {name: manifest.header[name] for name in ("method", "version", "parameters")}
    known = Evidence(
        index_root=manifest.root,
        method=method,
        counts=manifest.counts,
    )
    if not attribution.answer_ids:
        return replace(known, has_answer=False)
    ids = [*attribution.prompt_ids, *attribution.answer_ids]
    mask = [0] * len(attribution.prompt_ids) + [1] * len(attribution.answer_ids)
    scores = scorer.score(ids, mask)
    if PROMPT_TOKENS:
        known = replace(
            known,
            prompt_method={"method": prompt_tokens.METHOD, "version": prompt_tokens.VERSION},
            prompt_weights=prompt_tokens.prompt_weights(
                scorer.model, attribution.prompt_ids, attribution.answer_ids
            ),
        )
    top = scores.top_records(TOP_RECORDS)
    shown = {record for record, _ in top}
    paid_to = {
        entry.record_id: parse(entry.group_id).contributor
        for entry in scorer.index.records
        if entry.record_id in shown
    }
    clusters = payees_of([UUID(record) for record, _ in top])
    return replace(
        known,
        influences=scores.groups,
        confidence=scores.confidence,
        records=[
            TopRecord(UUID(record), paid_to[record], influence, clusters[UUID(record)].cluster)
            for record, influence in top
        ],
        sketch=scores.query.to_bytes(),
        sketch_bits=scores.query.bits,
        sketch_step=scores.query.step,
    )


def examples_of(model: Model, *, every: bool = False) -> list[IndexedExample]:
    """The model's training records as it saw them, in groups of contributor, Datanet, version; one
    of each cluster of near-duplicates, or with `every` all."""
    tokenizer = load_tokenizer(model.base_model.path)
    cutoff = model.run.parsed_recipe.cutoff
    found = []
    for record, group in learnt.grouped_training_records(model, every=every):
        example = render_example(record.payload, tokenizer, cutoff)
        found.append(
            IndexedExample(
                record_id=str(record.record_id),
                group_id=str(group),
                input_ids=example.input_ids,
                loss_mask=example.loss_mask,
                content_hash=record.content_hash,
            )
        )
    return found


def _has_index(attribution: Attribution) -> bool:
    """Whether scoring can start. Otherwise see to it that it will, or fail with the reason."""
    if attribution.state != Attribution.State.QUEUED:
        return True
    # All of a merge's are asked for before one is waited for.
    ready = [_is_ready(model, attribution) for model in merges.models_of(attribution)]
    return all(ready)


def _is_ready(model: Model, attribution: Attribution) -> bool:
    at = timezone.now()
    index = Index.objects.filter(model=model).first()
    if index is None:
        index = indexes.request_index(model_id=model.pk, acting_user=None, at=at)
    if index.state == Index.State.READY:
        if passages.are_indexed(model):
            return True
        receipts.wait_for_index(attribution_id=attribution.pk, at=at)
    elif index.state == Index.State.FAILED:
        if not learnt.has_records(model) or receipts.waits_no_longer(attribution, at=at):
            return True
        reason = index.failure_reason
        receipts.fail_without_index(attribution_id=attribution.pk, reason=reason, at=at)
    else:
        receipts.wait_for_index(attribution_id=attribution.pk, at=at)
    return False


def _build(index: Index, owner: str, state: Index.State) -> None:
    began = time.monotonic()
    torch.set_num_threads(THREADS)
    device, _ = choose_device()
    folder = index_files.build_folder(index)
    with adapter_of(index.model) as adapter:
        model = averaging.loaded(index.model, adapter, device)
    if state == Index.State.MERGING:
        # Of its own, for a merger that does not know that another has its place; and gone with it,
        # since another try begins it anew.
        folder.mkdir(parents=True, exist_ok=True)
        with own_folder(folder, "whole-") as made:
            merged = part_workers.merge(index, model, folder, made)
            _finish(index, owner, merged, made, device, began)
    else:
        manifest = make_index(index, model, examples_of(index.model), folder, owner)
        if manifest is None:
            return
        _finish(index, owner, manifest, folder, device, began)
    shutil.rmtree(folder, ignore_errors=True)


def _finish(
    index: Index, owner: str, manifest: IndexManifest, made: Path, device: str, began: float
) -> None:
    """Store what was made in the folder. Raises LeaseLostError."""
    # Beside it, so that the first receipt finds them; they have rows and leases of their own.
    passages.build_for(index.model)
    stored = index_files.store(made)
    done = indexes.finish(
        index_id=index.pk,
        owner=owner,
        root=manifest.root,
        manifest=stored,
        device=device,
        seconds=round(time.monotonic() - began, 3),
        at=timezone.now(),
    )
    if not done:
        raise LeaseLostError


def make_index(
    row: Index, model: AdaptedModel, examples: Sequence[IndexedExample], folder: Path, owner: str
) -> IndexManifest | None:
    """The index over ``examples``: from the one before it by taking records out of it where that
    is all that changed and the method is the same, else from nothing. None where they are so many
    that it is built in parts, which are asked for now. Raises InfluenceError."""
    config, others = averaging.config_of(row.model), _foreign(row.model)
    on_progress = _beat(row, owner)
    header = row.manifest["header"] if row.root else {}
    before = None
    if (header.get("version"), header.get("parameters")) == (METHOD_VERSION, config.published()):
        before = scorers.still_there(row)
    if before is not None:
        groups = {entry.record_id: entry.group_id for entry in before.records}
        wanted = {example.record_id: example.group_id for example in examples}
        gone = groups.keys() - wanted.keys()
        # A record that another pays for now, or a copy that counts in place of one that is gone,
        # moves money between groups: that is no removal.
        if wanted.items() <= groups.items():
            if not gone:
                shutil.copytree(before.folder, folder, dirs_exist_ok=True)
                return before.manifest
            touched = {groups[record] for record in gone}
            remaining = [example for example in examples if example.group_id in touched]
            return remove(model, before, config, gone, remaining, folder, on_progress, others)
    if 0 < settings.INDEX_PART_RECORDS < len(examples):
        part_workers.spread(row, owner, model, examples, folder, on_progress, others)
        return None
    return build_with(model, config, examples, folder, on_progress, others)


def _beat(index: Index, owner: str) -> Beat:
    return Beat(
        lambda done, total: indexes.note_progress(
            index_id=index.pk, owner=owner, done=done, total=total, at=timezone.now()
        )
    )


def _foreign(model: Model) -> list[IndexedExample]:
    """Foreign records as the model reads them; none where its context leaves too few whole."""
    tokenizer = load_tokenizer(model.base_model.path)
    found = foreign.examples(tokenizer, model.run.parsed_recipe.cutoff)
    return found if len(found) >= confidence.FEWEST else []
