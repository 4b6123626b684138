"""What a worker writes about a completion, and what the sweeper does when a worker is lost.

A completion belongs to the worker whose name is in `lease_owner`; each change here looks at it
first, so a worker that lost its lease can neither show a token nor take money.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F

from accounts import leases, rate_limits
from accounts.compiled import Compiled
from attribution.services.receipts import request_attribution
from governance.selectors import governed
from ledger.fees import Terms
from ledger.models import Hold
from ledger.services.holds import Capture, Refs, capture_many, terms_of
from serving import splits
from serving.models import Completion, CompletionState
from serving.prompts import storable
from serving.services.completions import enqueue, give_back_to_key, release


@dataclass(frozen=True, slots=True)
class Answer:
    """What the engine gave: the tokens with the one that ended it, and their text."""

    ids: list[int]
    text: str
    finish_reason: str
    cached_tokens: int = 0
    logprobs: dict[str, list[Any]] | None = None

    @property
    def is_cancelled(self) -> bool:
        return self.finish_reason == "cancelled"


_CLAIMED = Compiled(
    lambda pk: Completion.objects.select_related(
        "deployment__base_model", "deployment__model__owner", "payer"
    ).filter(pk=pk)
)


def claim(*, completion_id: UUID, owner: str, at: datetime) -> Completion | None:
    """Take a held completion; None where another worker has it or it has ended.

    The disk is not waited for: what is shown or charged is written durably after it.
    """
    if not leases.claim(
        Completion,
        completion_id,
        from_states=[CompletionState.HELD],
        to_state=CompletionState.RUNNING,
        owner=owner,
        at=at,
        may_be_lost=True,
    ):
        return None
    return _CLAIMED.first(pk=completion_id)


def note_first_token(*, completion_id: UUID, owner: str, at: datetime) -> bool:
    """Before the first token is shown: from now on it is not run again. False: lease lost."""
    rows = Completion.objects.filter(
        pk=completion_id, lease_owner=owner, state=CompletionState.RUNNING
    )
    return bool(rows.update(first_token_at=at))


@dataclass(frozen=True, slots=True)
class Ended:
    """A completion that was answered by the worker that is its owner."""

    completion_id: UUID
    owner: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Retrieved:
    """A prompt with records in it; `stated` is {"method", "records"} (`attribution.retrievals`)."""

    prompt: str
    prompt_ids: list[int]
    stated: dict[str, Any]


def note_retrieved(*, completion: Completion, owner: str, found: Retrieved | None) -> None:
    """Keep the prompt as the model reads it, before anything is answered; None: no records.

    The reward is that of the parameters by which its fee was held. Nothing where the lease was
    lost.
    """
    completion.retrieval = {}
    changed: dict[str, Any] = {"retrieval": completion.retrieval}
    if found is not None:
        points = governed("retrieval.reward_bps", completion.parameter_version)
        completion.retrieval = {**found.stated, "reward_ppb": points * 10**5}
        completion.prompt = storable(found.prompt)
        completion.prompt_ids = found.prompt_ids
        completion.prompt_tokens = len(found.prompt_ids)
        names = ("retrieval", "prompt", "prompt_ids", "prompt_tokens")
        changed = {name: getattr(completion, name) for name in names}
    rows = Completion.objects.filter(
        pk=completion.pk, lease_owner=owner, state=CompletionState.RUNNING
    )
    rows.update(**changed)


def settle(*, completion_id: UUID, owner: str, answer: Answer, at: datetime) -> Completion | None:
    """Charge for one answer; see `settle_many`. None where the lease was lost."""
    return settle_many(ended=[Ended(completion_id, owner, answer)], at=at)[0]


def settle_many(*, ended: Sequence[Ended], at: datetime) -> list[Completion | None]:
    """Charge for answers, keep them, and ask for their attribution, all or nothing.

    An answer that was cancelled is charged for the tokens that it has; without one it is free.
    None in the place of one whose lease was lost. Raises LedgerError where a hold cannot be
    captured; which one that is, each finds alone.
    """
    with transaction.atomic():
        owned = _owned_of(ended)
        found = [owned.get(one.completion_id) for one in ended]
        answered = []
        for one, completion in zip(ended, found, strict=True):
            if completion is None:
                continue
            _keep(completion, one.answer)
            if one.answer.ids:
                answered.append(completion)
            else:
                release(completion, reason="Cancelled before a token.", acting_user=None, at=at)
        holds = _holds_of(answered)
        _charge(answered, holds, at)
        # What its key did not spend is given back under locks, in one order for all batches.
        for completion in sorted(filter(None, found), key=lambda one: str(one.api_key_id)):
            _end(completion, at)
        for completion in answered:
            _attribute(completion, holds.get(completion.pk), at)
    return found


def fail(*, completion_id: UUID, owner: str, reason: str, at: datetime) -> Completion | None:
    """End it with nothing charged; None where the lease was lost."""
    with transaction.atomic():
        completion = _owned(completion_id, owner)
        if completion is None:
            return None
        return _fail(completion, reason, at)


def run_again(pk: UUID, at: datetime) -> None:
    """For the sweeper: a lost request runs again if nobody has seen a token of it."""
    completion = Completion.objects.select_related("deployment__base_model").get(pk=pk)
    if completion.first_token_at is not None:
        _fail(completion, "The worker stopped while it answered. You were not charged.", at)
        return
    if completion.cancel_requested_at is not None or completion.deadline <= at:
        _fail(completion, "It was not answered in time. You were not charged.", at)
        return
    never_taken = completion.state == CompletionState.HELD
    Completion.objects.filter(pk=pk).update(
        state=CompletionState.HELD,
        lease_owner="",
        lease_expires_at=at + settings.WORK_LEASE,
        # A worker that takes it counts for itself; a message that was lost counts here.
        attempts=F("attempts") + (1 if never_taken else 0),
    )
    enqueue(completion, at)


def give_up(pk: UUID, reason: str, at: datetime) -> None:
    """For the sweeper: too many attempts."""
    completion = Completion.objects.select_related("deployment__base_model").get(pk=pk)
    _fail(completion, reason, at)


def note_receipt(*, completion_id: UUID, receipt_id: UUID) -> None:
    Completion.objects.filter(pk=completion_id).update(receipt_id=receipt_id)


def _owned(completion_id: UUID, owner: str) -> Completion | None:
    found: Completion | None = (
        Completion.objects.select_for_update(of=("self",))
        .select_related("deployment__model__owner", "payer")
        .filter(pk=completion_id, lease_owner=owner, state=CompletionState.RUNNING)
        .first()
    )
    return found


def _owned_of(ended: Sequence[Ended]) -> dict[UUID, Completion]:
    """Those whose owners still have them, locked in the order of their ids."""
    owners = {one.completion_id: one.owner for one in ended}
    rows = (
        Completion.objects.select_for_update(of=("self",))
        .select_related("deployment__model__owner", "payer")
        .filter(pk__in=owners, state=CompletionState.RUNNING)
        .order_by("pk")
    )
    return {row.pk: row for row in rows if row.lease_owner == owners[row.pk]}


def _keep(completion: Completion, answer: Answer) -> None:
    completion.answer, completion.answer_ids = storable(answer.text), answer.ids
    completion.completion_tokens = len(answer.ids)
    completion.finish_reason = answer.finish_reason
    completion.logprobs, completion.cached_tokens = answer.logprobs, answer.cached_tokens
    completion.state = (
        CompletionState.CANCELLED if answer.is_cancelled else CompletionState.SUCCEEDED
    )
    if answer.ids:
        completion.fee = (
            completion.prompt_tokens * completion.input_price
            + completion.completion_tokens * completion.output_price
        )


def _holds_of(completions: Sequence[Completion]) -> dict[UUID, Hold]:
    """By the completion; a free one has none."""
    by_hold = {one.hold_id: one.pk for one in completions if one.hold_id is not None}
    return {by_hold[hold.pk]: hold for hold in Hold.objects.filter(pk__in=by_hold)}


def _charge(completions: Sequence[Completion], holds: Mapping[UUID, Hold], at: datetime) -> None:
    charged = [one for one in completions if one.pk in holds and one.fee]
    entries = capture_many(
        captures=[_capture(one, holds[one.pk]) for one in charged], acting_user=None, at=at
    )
    for completion, entry in zip(charged, entries, strict=True):
        completion.entry_id = entry.pk
    for completion in completions:
        if completion.pk in holds and not completion.fee:
            # Only the unused part of the price was above zero; there is nothing to divide.
            release(completion, reason="It cost nothing.", acting_user=None, at=at)


def _capture(completion: Completion, hold: Hold) -> Capture:
    model = completion.deployment.model
    return Capture(
        hold=hold,
        amount=completion.fee,
        terms=terms_of(hold) or _plain_terms(completion),
        refs=Refs(model=model.pk if model is not None else None, completion=completion.pk),
    )


def _plain_terms(completion: Completion) -> Terms:
    """For a completion that was held before holds kept their terms."""
    model = completion.deployment.model
    split = splits.from_json(completion.split)
    return Terms.of_split(split, model.owner_id if model is not None else None)


def _attribute(completion: Completion, hold: Hold | None, at: datetime) -> None:
    model = completion.deployment.model
    request_attribution(
        completion_id=completion.pk,
        model_id=model.pk if model is not None else None,
        prompt_ids=completion.prompt_ids,
        answer_ids=completion.answer_ids,
        prompt=completion.prompt,
        answer=completion.answer,
        fee=completion.fee,
        split=splits.from_json(completion.split),
        terms=terms_of(hold) if hold else None,
        input_price=completion.input_price,
        output_price=completion.output_price,
        payer_id=completion.payer_id,
        retrieval=completion.retrieval or None,
        merge=completion.merge,
        at=at,
    )


def _fail(completion: Completion, reason: str, at: datetime) -> Completion:
    release(completion, reason=reason, acting_user=None, at=at)
    completion.state, completion.failure_reason = CompletionState.FAILED, reason
    _end(completion, at)
    return completion


def _end(completion: Completion, at: datetime) -> None:
    give_back_to_key(completion)
    if completion.api_key_id is not None and completion.completion_tokens:
        key_id, tokens = completion.api_key_id, completion.completion_tokens
        transaction.on_commit(lambda: rate_limits.count_tokens(key_id, tokens))
    completion.finished_at = at
    completion.lease_owner, completion.lease_expires_at = "", None
    completion.save(
        update_fields=[
            "answer",
            "answer_ids",
            "completion_tokens",
            "cached_tokens",
            "logprobs",
            "finish_reason",
            "fee",
            "entry_id",
            "state",
            "failure_reason",
            "finished_at",
            "lease_owner",
            "lease_expires_at",
        ]
    )
