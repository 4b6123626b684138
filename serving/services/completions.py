"""Asking a model: quote, hold, queue; and taking the request back."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Count

from accounts import key_spending, outbox
from accounts.compiled import Compiled
from accounts.ids import uuid7
from accounts.models import ApiKey, User
from accounts.workers import names_of_live_workers
from governance.selectors import current_parameters
from ledger import spending
from ledger.errors import InsufficientFunds, LedgerError
from ledger.fees import Terms
from ledger.models import Hold
from ledger.services.holds import add_hold, release_hold
from ledger.words import open_text
from modelfactory.models import BaseModel
from serving import splits
from serving.errors import (
    InvalidRequest,
    KeyCapReached,
    NoBalance,
    NotSpendable,
    PromptTooLong,
    TooManyRequests,
)
from serving.external.routing import QUEUE, queue_of, refuses
from serving.limits import (
    DEADLINE,
    DEFAULT_MAX_TOKENS,
    HOLD_SLACK,
    RETRY_AFTER_SECONDS,
    UNFINISHED_PER_PERSON,
)
from serving.merges import Merged
from serving.models import Completion, CompletionState, Deployment
from serving.prompts import Prompt, prepare, tokenizer_of
from serving.questions import Question, Sampling
from serving.retrieval.prompting import budget_of
from serving.services.deployments import served_by
from serving.terms import terms_for, terms_for_merge
from serving.warm import warm_queue

CAUSE = "completion"
_UNFINISHED = Compiled(
    lambda payer: (
        Completion.objects.unfinished()
        .filter(payer=payer)
        .order_by()
        .values("payer")
        .annotate(many=Count("pk"))
        .values_list("many")
    )
)


@dataclass(frozen=True, slots=True)
class Quote:
    """What a request costs at most, in wei, if the answer is as long as it may be."""

    prompt: Prompt
    max_tokens: int
    highest_fee: int
    # Tokens that retrieved records may take beside the prompt, in the fee already.
    retrieval_tokens: int = 0


def quote(
    *,
    deployment: Deployment,
    question: Question,
    max_tokens: int | None = None,
    prompt_is_paid: bool = False,
    merge: Merged | None = None,
) -> Quote:
    """Count and price a question without asking it.

    Raises InvalidRequest and PromptTooLong.
    """
    base = deployment.base_model
    prompt = prepare(question, base)
    room = base.context_length - len(prompt.ids)
    priced = merge or deployment
    retrieved = 0 if merge else budget_of(deployment, question, room, max_tokens)
    if max_tokens is None:
        room -= retrieved
        max_tokens = min(DEFAULT_MAX_TOKENS, room)
    if max_tokens < 1:
        raise InvalidRequest("max_tokens is at least 1.", parameter="max_tokens")
    if max_tokens > room:
        raise PromptTooLong(
            f"The prompt has {len(prompt.ids)} tokens and max_tokens is {max_tokens}; together "
            f"they may be {base.context_length}. Ask for at most {room}.",
            parameter="max_tokens",
        )
    read = 0 if prompt_is_paid else (len(prompt.ids) + retrieved) * priced.input_price
    return Quote(prompt, max_tokens, read + max_tokens * priced.output_price, retrieved)


def check_tokens(sampling: Sampling, base: BaseModel) -> None:
    """Raises InvalidRequest where a bias is for a token that the model does not have."""
    known = tokenizer_of(base).vocabulary_size if sampling.logit_bias else 0
    if any(token >= known for token in sampling.logit_bias):
        raise InvalidRequest(
            f"logit_bias names a token that this model does not have; it has {known}.",
            parameter="logit_bias",
        )


def _check_unfinished(payer: User) -> None:
    unfinished = sum(many for (many,) in _UNFINISHED.rows(payer=payer.pk))
    if unfinished >= UNFINISHED_PER_PERSON:
        raise TooManyRequests(
            f"You have {unfinished} requests that are not answered yet; "
            f"try again in {RETRY_AFTER_SECONDS} seconds."
        )


def _check_told(sampling: Sampling, base: BaseModel, at: datetime) -> None:
    """Raises InvalidRequest where who answers cannot tell the probabilities that are asked for."""
    told = sampling.logprobs is not None
    reason = refuses(base, logprobs=told, prompt_logprobs=told and sampling.echo, at=at)
    if reason:
        raise InvalidRequest(reason, parameter="logprobs")


def refusal_of(*, payer: User, offer: Quote, at: datetime) -> LedgerError | None:
    """Why the ledger would not hold the highest price now; None where it would."""
    return spending.would_refuse(payer, offer.highest_fee, at) if offer.highest_fee else None


def start_completion(
    *,
    deployment: Deployment,
    question: Question,
    sampling: Sampling,
    payer: User,
    acting_user: User,
    at: datetime,
    api_key: ApiKey | None = None,
    prompt_is_paid: bool = False,
    merge: Merged | None = None,
) -> Completion:
    """Hold the highest price and queue the request; a worker answers into its token stream.

    `prompt_is_paid`: another choice of the same request pays for reading the prompt. `merge` are
    adapters that answer as one on the base that `deployment` is.

    Raises InvalidRequest, PromptTooLong, TooManyRequests, NoWorker, NoBalance, KeyCapReached and
    NotSpendable; nothing is written then.
    """
    # First, since it costs least: a flood is refused before its tokens are counted.
    _check_unfinished(payer)
    offer = quote(
        deployment=deployment,
        question=question,
        max_tokens=sampling.max_tokens,
        prompt_is_paid=prompt_is_paid,
        merge=merge,
    )
    check_tokens(sampling, deployment.base_model)
    _check_told(sampling, deployment.base_model, at)
    priced = merge or deployment
    input_price = 0 if prompt_is_paid else priced.input_price
    queue, alive = served_by(deployment.base_model, at=at)
    parameters = current_parameters()
    split = parameters.split
    completion = Completion(
        id=uuid7(),
        created_at=at,
        deployment=deployment,
        payer=payer,
        api_key=api_key,
        kind=offer.prompt.kind,
        messages=offer.prompt.messages,
        prompt=offer.prompt.text,
        prompt_ids=offer.prompt.ids,
        prompt_tokens=len(offer.prompt.ids),
        retrieval_tokens=offer.retrieval_tokens,
        merge=merge.to_json() if merge else None,
        sampling=sampling.to_json(offer.max_tokens),
        input_price=input_price,
        output_price=priced.output_price,
        highest_fee=offer.highest_fee,
        split=splits.to_json(split),
        parameter_version=split.version,
        deadline=at + DEADLINE,
        lease_expires_at=at + settings.WORK_LEASE,
    )
    with transaction.atomic():
        if offer.highest_fee:
            terms = (
                terms_for_merge(merge.shares(), parameters)
                if merge
                else terms_for(deployment.model, parameters)
            )
            completion.hold_id = _hold(completion, terms, acting_user, at).pk
        _count_for_key(completion, at)
        completion.save(force_insert=True)
        _send(completion, queue, alive, at)
    return completion


def cancel_completion(*, completion: Completion, acting_user: User | None, at: datetime) -> None:
    """Stop a request. Before a worker took it, it costs nothing; after, what it has given."""
    with transaction.atomic():
        row = Completion.objects.select_for_update(of=("self",)).get(pk=completion.pk)
        if row.is_final:
            return
        row.cancel_requested_at = row.cancel_requested_at or at
        if row.state == CompletionState.HELD:
            release(row, reason="Cancelled before it began.", acting_user=acting_user, at=at)
            row.state, row.finished_at = CompletionState.CANCELLED, at
            row.finish_reason = "cancelled"
            row.lease_owner, row.lease_expires_at = "", None
            give_back_to_key(row)
        row.save(
            update_fields=[
                "cancel_requested_at",
                "state",
                "finished_at",
                "finish_reason",
                "lease_owner",
                "lease_expires_at",
            ]
        )


def release(completion: Completion, *, reason: str, acting_user: User | None, at: datetime) -> None:
    """Give the held money back, in the caller's transaction."""
    if completion.hold_id is not None:
        hold = Hold.objects.get(pk=completion.hold_id)
        release_hold(hold=hold, reason=reason, acting_user=acting_user, at=at)


def give_back_to_key(completion: Completion) -> None:
    """Take what it did not cost off its key's month; after the ledger, as it was counted."""
    if completion.api_key_id is not None:
        key_spending.give_back(
            key_id=completion.api_key_id,
            amount=completion.highest_fee - completion.fee,
            counted_at=completion.created_at,
        )


def _count_for_key(completion: Completion, at: datetime) -> None:
    if completion.api_key is None or not completion.highest_fee:
        return
    try:
        key_spending.count(key=completion.api_key, amount=completion.highest_fee, at=at)
    except key_spending.KeyCapReached as error:
        raise KeyCapReached(str(error)) from error


def enqueue(completion: Completion, at: datetime, *, to_anybody: bool = False) -> None:
    """Send the message to a worker that has the adapter and is free, else to whoever comes first.

    What the first one does not take within a second is sent `to_anybody` (`serving.turns`).
    """
    queue = queue_of(completion.deployment.base_model, at=at)
    alive = [] if to_anybody else names_of_live_workers(queue=queue, at=at)
    _send(completion, queue, alive, at)


def _send(completion: Completion, queue: str, alive: Collection[str], at: datetime) -> None:
    """To one of `alive` workers of the queue that has the adapter, where one is free."""
    if queue != QUEUE:
        queue = warm_queue(completion, queue, alive, at=at) or queue
    task = "ask_elsewhere" if queue == QUEUE else "generate"
    outbox.enqueue(task=f"serving.tasks.{task}", args=[str(completion.pk)], queue=queue, at=at)


def _hold(completion: Completion, terms: Terms, acting_user: User, at: datetime) -> Hold:
    try:
        return add_hold(
            payer=completion.payer,
            amount=completion.highest_fee,
            cause_kind=CAUSE,
            cause_id=completion.pk,
            terms=terms,
            expires_at=completion.deadline + HOLD_SLACK,
            acting_user=acting_user,
            at=at,
        )
    except InsufficientFunds as error:
        raise NoBalance(
            f"This request may cost up to {open_text(completion.highest_fee)} OPEN, which is more "
            "than your balance. Deposit OPEN in your wallet (/wallet/) or lower max_tokens."
        ) from error
    except LedgerError as error:
        raise NotSpendable(error.message, code=error.code) from error
