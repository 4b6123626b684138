"""An attribution from the wish to a worker that has it. The receipt itself is in `writing`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from accounts import leases, outbox
from attribution.models import Attribution
from ledger import fees
from ledger.fees import Terms
from ledger.models import Hold
from ledger.splits import Split
from modelfactory.models import Model

TASK = "attribution.tasks.attribute"
QUEUE = "attribute"
WAIT_FOR_INDEX = timedelta(seconds=15)
# How the reason begins by which an attribution fails whose index did.
WITHOUT_INDEX = "The index of the model could not be built:"
# Blends that are put back to work at a time.
RELEASED = 1_000
State = Attribution.State
IN_WORK = [State.QUEUED, State.RUNNING]
# How many waiting ones a worker tries before it takes the others to be taken.
CANDIDATES = 4


def request_attribution(
    *,
    completion_id: UUID,
    model_id: UUID | None,
    prompt_ids: list[int],
    answer_ids: list[int],
    prompt: str,
    answer: str,
    fee: int,
    split: Split,
    input_price: int,
    output_price: int,
    at: datetime,
    payer_id: UUID | None = None,
    terms: Terms | None = None,
    retrieval: dict[str, Any] | None = None,
    merge: dict[str, Any] | None = None,
) -> Attribution:
    """Ask for a completion's receipt, in the caller's transaction; asked again, nothing changes.

    `terms` are those that the fee was divided by; None where there was no hold. `payer_id` is who
    asked; without it, whose hold paid. A free completion has no hold. `retrieval` is what was put
    into the prompt (`attribution.retrievals`). `merge` are several models that answered as one
    (`attribution.merges`), in place of `model_id`.
    """
    with transaction.atomic():
        attribution, is_new = Attribution.objects.get_or_create(
            completion_id=completion_id,
            defaults={
                "model": Model.objects.get(pk=model_id) if model_id else None,
                "payer_id": payer_id or _payer(completion_id),
                "prompt_ids": list(prompt_ids),
                "answer_ids": list(answer_ids),
                "prompt": prompt,
                "answer": answer,
                "prompt_tokens": len(prompt_ids),
                "completion_tokens": len(answer_ids),
                "fee": fee,
                "input_price": input_price,
                "output_price": output_price,
                "split": split_as_json(split),
                "terms": fees.to_json(terms) if terms else None,
                "retrieval": retrieval,
                "merge": merge,
                "lease_expires_at": at + settings.WORK_LEASE,
            },
        )
        if is_new:
            enqueue(attribution.pk, at=at)
    return attribution


def split_as_json(split: Split) -> dict[str, Any]:
    parts: dict[str, int] = {part.kind: part.basis_points for part in split.parts}
    return {"version": split.version, "parts": parts}


def enqueue(attribution_id: UUID, *, at: datetime, delay: timedelta | None = None) -> None:
    outbox.enqueue(
        task=TASK,
        args=[str(attribution_id)],
        queue=QUEUE,
        at=at,
        delay=delay,
        # A message that waits must not swallow one that shall run now.
        key=f"attribute:{attribution_id}:waiting" if delay else None,
    )


def claim(*, attribution_id: UUID, owner: str, at: datetime) -> Attribution | None:
    """The attribution, where the caller has it now."""
    taken = leases.claim(
        Attribution,
        attribution_id,
        from_states=[State.QUEUED],
        to_state=State.RUNNING,
        owner=owner,
        at=at,
    )
    if not taken:
        return None
    return Attribution.objects.select_related("model__base_model").get(pk=attribution_id)


def claim_next(*, model_id: UUID | None, owner: str, at: datetime) -> Attribution | None:
    """The oldest attribution of this model that waits, where there is one that nobody takes first.

    For a worker that has the model's index in memory: the message of what it takes finds the work
    done when it comes.
    """
    waiting = Attribution.objects.filter(state=State.QUEUED, merge__isnull=True)
    waiting = waiting.filter(model_id=model_id) if model_id else waiting.filter(model=None)
    for pk in waiting.order_by("id").values_list("pk", flat=True)[:CANDIDATES]:
        taken = claim(attribution_id=pk, owner=owner, at=at)
        if taken is not None:
            return taken
    return None


def wait_for_index(*, attribution_id: UUID, at: datetime) -> None:
    """Look again in a while; the index wakes those that wait for it, too."""
    with transaction.atomic():
        enqueue(attribution_id, at=at, delay=WAIT_FOR_INDEX)


def begin_again(*, attribution_id: UUID, owner: str, at: datetime) -> None:
    """Put back what `owner` has claimed and cannot score now, since its index is lost."""
    with transaction.atomic():
        mine = Attribution.objects.filter(pk=attribution_id, lease_owner=owner)
        if mine.select_for_update().exists():
            leases.put_back(
                Attribution, attribution_id, running_states=IN_WORK, to_state=State.QUEUED, at=at
            )
            enqueue(attribution_id, at=at)


def fail_without_index(*, attribution_id: UUID, reason: str, at: datetime) -> None:
    """Give up since the index could not be built, by its `reason`, until it is."""
    fail(attribution_id, f"{WITHOUT_INDEX} {reason}", at, lacks_index=True)


def waits_no_longer(attribution: Attribution, *, at: datetime) -> bool:
    """Whether an answer of several models has waited long enough for an index that failed.

    One model's failure would keep what the others' contributors earned. An answer of one model
    waits for as long as it takes: nobody else's money does.
    """
    ends = attribution.settles_without_index_at
    return ends is not None and at >= ends


def release_blends(*, at: datetime) -> int:
    """Put answers of several models back to work that failed by one's index and have waited long
    enough; how many. They are written without it."""
    overdue = Attribution.objects.filter(
        state=State.FAILED,
        merge__isnull=False,
        lacks_index=True,
        created_at__lte=at - settings.MERGE_INDEX_PATIENCE,
    )
    found = overdue.order_by("created_at").values_list("pk", flat=True)[:RELEASED]
    return sum(try_again(attribution_id=pk, at=at) for pk in list(found))


def try_again(*, attribution_id: UUID, at: datetime) -> bool:
    """Put a waiting or failed attribution back to work; whether there was one."""
    with transaction.atomic():
        rows: Any = Attribution.objects.filter(
            pk=attribution_id, state__in=[State.QUEUED, State.FAILED]
        )
        found: int = rows.update(**_anew(at))
        if found:
            enqueue(attribution_id, at=at)
    return bool(found)


def try_failed_again(*, attribution_ids: Sequence[UUID], at: datetime) -> list[Attribution]:
    """Put those of them that have failed back to work; each as it was, without its texts."""
    with transaction.atomic():
        rows = Attribution.objects.filter(pk__in=attribution_ids, state=State.FAILED)
        rows = rows.select_for_update().only("completion_id", "failure_reason").order_by("pk")
        found = list(rows)
        stuck: Any = Attribution.objects.filter(pk__in=[row.pk for row in found])
        stuck.update(**_anew(at))
        outbox.enqueue_many(task=TASK, args=[[str(row.pk)] for row in found], queue=QUEUE, at=at)
    return found


def _anew(at: datetime) -> dict[str, Any]:
    """The fields of one that nobody has tried yet."""
    return {
        "state": State.QUEUED,
        "attempts": 0,
        "failure_reason": "",
        "lacks_index": False,
        "lease_expires_at": at + settings.WORK_LEASE,
    }


def requeue(attribution_id: UUID, at: datetime) -> None:
    """Put back an attribution whose worker died, or whose message was lost on the way."""
    leases.put_back(
        Attribution, attribution_id, running_states=IN_WORK, to_state=State.QUEUED, at=at
    )
    enqueue(attribution_id, at=at)


def fail(
    attribution_id: UUID,
    reason: str,
    at: datetime,
    owner: str | None = None,
    *,
    lacks_index: bool = False,
) -> None:
    """Give up, unless `owner` is named and has lost the lease. The contributors' part stays in
    suspense for the next try."""
    completions = Attribution.objects.filter(pk=attribution_id).values_list("completion_id")
    with transaction.atomic():
        leases.give_up(
            Attribution,
            attribution_id,
            done_state=State.DONE,
            reason=reason,
            verb="attribution.failed",
            owner=owner,
            at=at,
            told={"completion": str(completions.get()[0])},
        )
        failed: Any = Attribution.objects.filter(
            pk=attribution_id, state=State.FAILED, failure_reason=reason
        )
        failed.update(lacks_index=lacks_index)


def _payer(completion_id: UUID) -> UUID | None:
    """Whose hold pays for the completion; None where it was free."""
    return (
        Hold.objects.filter(cause_kind="completion", cause_id=completion_id)
        .values_list("payer_id", flat=True)
        .first()
    )
