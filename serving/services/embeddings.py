"""Asking for vectors: hold, queue, capture, and giving the money back where it failed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F

from accounts import key_spending, leases, outbox, rate_limits
from accounts.ids import uuid7
from accounts.models import ApiKey, User
from accounts.workers import live_workers
from governance.selectors import current_parameters
from ledger.errors import InsufficientFunds, LedgerError
from ledger.fees import Terms
from ledger.models import Hold
from ledger.services.holds import Refs, capture_hold, open_hold, release_hold, terms_of
from ledger.words import open_text
from serving.errors import (
    InvalidRequest,
    KeyCapReached,
    NoBalance,
    NotSpendable,
    NoWorker,
    PromptTooLong,
    TooManyRequests,
)
from serving.limits import EMBEDDED_TEXTS, RETRY_AFTER_SECONDS, UNFINISHED_PER_PERSON
from serving.models import Deployment, Embedding, EmbeddingState
from serving.prompts import tokenizer_of

CAUSE = "embedding"
LATE = "It was not answered in time. You were not charged."
DEADLINE = timedelta(minutes=5)
# The hold outlives the deadline and every attempt of a worker.
HOLD_SLACK = timedelta(minutes=30)
# After so long whoever asked was told that nothing came; what comes then is not charged.
GIVEN_UP = DEADLINE * 2
KEPT = timedelta(hours=1)


def start_embedding(
    *,
    deployment: Deployment,
    texts: Sequence[str | Sequence[int]],
    payer: User,
    acting_user: User,
    at: datetime,
    api_key: ApiKey | None = None,
) -> Embedding:
    """Hold the price of reading these texts and queue them; a worker of the base answers.

    A vector is of the base alone, so who made an adapter has no part in it. Raises InvalidRequest,
    PromptTooLong, TooManyRequests, NoWorker, NoBalance, KeyCapReached and NotSpendable; nothing is
    written then.
    """
    # First, since it costs least: a flood is refused before its tokens are counted.
    waiting = Embedding.objects.filter(payer=payer, state__in=Embedding.UNFINISHED).count()
    if waiting >= UNFINISHED_PER_PERSON:
        raise TooManyRequests(
            f"You have {waiting} requests that are not answered yet; "
            f"try again in {RETRY_AFTER_SECONDS} seconds."
        )
    inputs = _counted(deployment, texts)
    queue = deployment.queue
    if not live_workers(queue=queue, at=at).exists():
        raise NoWorker(f"No live worker makes vectors of {deployment.name}: none on {queue}.")
    tokens = sum(map(len, inputs))
    made = Embedding(
        id=uuid7(),
        created_at=at,
        deployment=deployment,
        payer=payer,
        api_key=api_key,
        inputs=inputs,
        prompt_tokens=tokens,
        input_price=deployment.input_price,
        fee=tokens * deployment.input_price,
        lease_expires_at=at + settings.WORK_LEASE,
    )
    with transaction.atomic():
        if made.fee:
            made.hold_id = _hold(made, acting_user, at).pk
            _count_for_key(made, at)
        made.save(force_insert=True)
        _enqueue(made, queue, at)
    return made


def claim(*, embedding_id: UUID, owner: str, at: datetime) -> Embedding | None:
    if not leases.claim(
        Embedding,
        embedding_id,
        from_states=[EmbeddingState.HELD],
        to_state=EmbeddingState.RUNNING,
        owner=owner,
        at=at,
    ):
        return None
    found: Embedding = Embedding.objects.select_related("deployment__base_model").get(
        pk=embedding_id
    )
    return found


def following(*, embedding_id: UUID) -> UUID | None:
    """What waits longest on the base of this one; another person's first."""
    done = Embedding.objects.get(pk=embedding_id)
    waiting = Embedding.objects.filter(
        state=EmbeddingState.HELD,
        deployment__base_model__deployments__embeddings=embedding_id,
    ).order_by("id")
    others = waiting.exclude(payer=done.payer_id)
    found: UUID | None = (
        others.values_list("pk", flat=True).first() or waiting.values_list("pk", flat=True).first()
    )
    return found


def settle(
    *, embedding_id: UUID, owner: str, vectors: bytes, dimensions: int, at: datetime
) -> Embedding | None:
    """Charge for the vectors and keep them to be fetched; None where the lease was lost.

    Vectors that come after everybody gave up are not charged: they could not be fetched.
    """
    with transaction.atomic():
        made = _owned(embedding_id, owner)
        if made is None:
            return None
        if made.created_at + GIVEN_UP < at:
            _fail(made, LATE, at)
            return made
        if made.hold_id is not None:
            hold = Hold.objects.get(pk=made.hold_id)
            entry = capture_hold(
                hold=hold,
                amount=made.fee,
                terms=terms_of(hold) or Terms.of_split(current_parameters().split),
                refs=Refs(),
                acting_user=None,
                at=at,
            )
            made.entry_id = entry.pk
        made.state, made.vectors, made.dimensions = EmbeddingState.SUCCEEDED, vectors, dimensions
        _end(made, at)
    return made


def fail(*, embedding_id: UUID, owner: str, reason: str, at: datetime) -> None:
    """End it with nothing charged, where the worker still has it."""
    with transaction.atomic():
        made = _owned(embedding_id, owner)
        if made is not None:
            _fail(made, reason, at)


def take_back(*, embedding_id: UUID, at: datetime) -> None:
    """Whoever asked went away. Before a worker took it, it costs nothing; after, it goes on."""
    with transaction.atomic():
        made = (
            Embedding.objects.select_for_update(of=("self",))
            .filter(pk=embedding_id, state=EmbeddingState.HELD)
            .first()
        )
        if made is not None:
            _fail(made, "Taken back before it began. You were not charged.", at)


def run_again(pk: UUID, at: datetime) -> None:
    """For the sweeper: its worker did not come back, or its message was lost."""
    made = Embedding.objects.select_related("deployment__base_model").get(pk=pk)
    if made.created_at + DEADLINE <= at:
        _fail(made, LATE, at)
        return
    never_taken = made.state == EmbeddingState.HELD
    Embedding.objects.filter(pk=pk).update(
        state=EmbeddingState.HELD,
        lease_owner="",
        lease_expires_at=at + settings.WORK_LEASE,
        attempts=F("attempts") + (1 if never_taken else 0),
    )
    _enqueue(made, made.deployment.queue, at)


def give_up(pk: UUID, reason: str, at: datetime) -> None:
    """For the sweeper: too many attempts."""
    _fail(Embedding.objects.get(pk=pk), reason, at)


def fetched(*, embedding_id: UUID) -> None:
    """The answer is on its way: texts and vectors are kept no longer."""
    Embedding.objects.filter(pk=embedding_id).update(vectors=None, inputs=[])


def forget_unfetched(*, at: datetime) -> int:
    """Let go of what nobody fetched."""
    old: int = (
        Embedding.objects.filter(finished_at__lt=at - KEPT)
        .exclude(inputs=[])
        .update(vectors=None, inputs=[])
    )
    return old


def _counted(deployment: Deployment, texts: Sequence[str | Sequence[int]]) -> list[list[int]]:
    if deployment.model_id is not None:
        raise InvalidRequest(
            f"Vectors are of base models: ask {deployment.base_model.slug}.", parameter="model"
        )
    if not 1 <= len(texts) <= EMBEDDED_TEXTS:
        raise InvalidRequest(f"Send 1 to {EMBEDDED_TEXTS} texts at a time.", parameter="input")
    base = deployment.base_model
    tokenizer = tokenizer_of(base)
    found = []
    for text in texts:
        ids = tokenizer.encode(text) if isinstance(text, str) else list(text)
        if not ids:
            raise InvalidRequest("A text is empty.", parameter="input")
        if any(not 0 <= token < tokenizer.vocabulary_size for token in ids):
            raise InvalidRequest(
                "A text holds a token that this model does not have.", parameter="input"
            )
        if len(ids) > base.context_length:
            raise PromptTooLong(
                f"A text has {len(ids)} tokens; this model reads {base.context_length}. Cut it.",
                parameter="input",
            )
        found.append(ids)
    return found


def _hold(made: Embedding, acting_user: User, at: datetime) -> Hold:
    try:
        return open_hold(
            payer=made.payer,
            amount=made.fee,
            cause_kind=CAUSE,
            cause_id=made.pk,
            terms=Terms.of_split(current_parameters().split),
            expires_at=at + DEADLINE + HOLD_SLACK,
            acting_user=acting_user,
            at=at,
        )
    except InsufficientFunds as error:
        raise NoBalance(
            f"This request costs {open_text(made.fee)} OPEN, which is more than your balance. "
            "Deposit OPEN in your wallet (/wallet/) or send fewer texts."
        ) from error
    except LedgerError as error:
        raise NotSpendable(error.message, code=error.code) from error


def _count_for_key(made: Embedding, at: datetime) -> None:
    if made.api_key is None:
        return
    try:
        key_spending.count(key=made.api_key, amount=made.fee, at=at)
    except key_spending.KeyCapReached as error:
        raise KeyCapReached(str(error)) from error


def _enqueue(made: Embedding, queue: str, at: datetime) -> None:
    outbox.enqueue(task="serving.tasks.embed", args=[str(made.pk)], queue=queue, at=at)


def _owned(embedding_id: UUID, owner: str) -> Embedding | None:
    found: Embedding | None = (
        Embedding.objects.select_for_update(of=("self",))
        .filter(pk=embedding_id, lease_owner=owner, state=EmbeddingState.RUNNING)
        .first()
    )
    return found


def _fail(made: Embedding, reason: str, at: datetime) -> None:
    if made.hold_id is not None:
        hold = Hold.objects.get(pk=made.hold_id)
        release_hold(hold=hold, reason=reason, acting_user=None, at=at)
    if made.api_key_id is not None:
        key_spending.give_back(key_id=made.api_key_id, amount=made.fee, counted_at=made.created_at)
    made.state, made.failure_reason, made.inputs = EmbeddingState.FAILED, reason, []
    _end(made, at)


def _end(made: Embedding, at: datetime) -> None:
    if made.api_key_id is not None and made.state == EmbeddingState.SUCCEEDED:
        key_id, tokens = made.api_key_id, made.prompt_tokens
        transaction.on_commit(lambda: rate_limits.count_tokens(key_id, tokens))
    made.finished_at = at
    made.lease_owner, made.lease_expires_at = "", None
    made.save()
