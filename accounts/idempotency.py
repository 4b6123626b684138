"""A request of the API that moves money is carried out once, however often it is sent.

The caller names the request by the header `Idempotency-Key` (IETF draft-ietf-httpapi-
idempotency-key-header). The row is committed before the work begins, so a second sending finds it:

* none given: 400;  * the first still runs: 409;  * another body under the key: 422;
* the first was done: its answer again, with the header `Idempotent-Replayed: true`.

What was refused or broke is forgotten, since nothing was written: the caller may mend the cause and
send it again under the same key. A process that dies with the request in hand leaves a lease; the
services below take the same key, so taking the request up again moves nothing twice.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import wraps
from typing import Any
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import IdempotentRequest, User

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
LONGEST_KEY = 100
LEASE = timedelta(minutes=1)
KEPT = timedelta(days=7)

Handler = Callable[..., Response]


class Refused(Exception):
    """The request is not carried out: `status` and `code` for machines, a sentence for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered to the first sending."""

    status: int
    data: Any


def begin(*, user: User, key: str, body_hash: str, at: datetime) -> UUID | Answer:
    """Take the request, or return what was answered before; commits at once.

    Raises Refused: 400 (no key, or none that can be one), 409 (still running), 422 (other body).
    """
    if not key or len(key) > LONGEST_KEY or not key.isprintable():
        raise Refused(
            400,
            "idempotency_key_required",
            f"Send the header {HEADER}: a name of your own for this request, 1 to {LONGEST_KEY} "
            "characters, a UUID for example. Sent again with it, the request is carried out once.",
        )
    row = IdempotentRequest(
        user=user, key=key, body_hash=body_hash, created_at=at, lease_expires_at=at + LEASE
    )
    IdempotentRequest.objects.bulk_create([row], ignore_conflicts=True)
    known = IdempotentRequest.objects.filter(user=user, key=key).first()
    if known is None:
        raise _running()
    if known.pk == row.pk:
        return row.pk
    if known.body_hash != body_hash:
        raise Refused(
            422,
            "idempotency_key_reused",
            "This key was used for another request; use a new key, or send the first body again.",
        )
    if known.state == IdempotentRequest.State.DONE:
        return Answer(known.status or 200, known.answer)
    return _take_up(known, at)


def end(*, request_id: UUID, status: int, data: Any) -> None:
    """Keep the answer of what was done; forget what was refused or broke: nothing was written."""
    mine = IdempotentRequest.objects.filter(pk=request_id)
    if 200 <= status < 300:
        mine.update(state=IdempotentRequest.State.DONE, status=status, answer=data)
    else:
        mine.delete()


def forget_old(*, at: datetime) -> int:
    """Delete requests that nobody will send again; the ledger's own keys stay for ever."""
    deleted, _ = IdempotentRequest.objects.filter(created_at__lt=at - KEPT).delete()
    return deleted


def idempotent(handler: Handler) -> Handler:
    """For a method of an API view: hands it `key`, and carries it out once per key and user.

    Give `key` on to the service. The view must admit signed-in callers alone.
    """

    @wraps(handler)
    def once(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        user: Any = request.user
        key = request.headers.get(HEADER, "").strip()
        try:
            begun = begin(user=user, key=key, body_hash=_hash(request), at=timezone.now())
        except Refused as refusal:
            body = {"code": refusal.code, "message": refusal.message}
            return Response(body, status=refusal.status)
        if isinstance(begun, Answer):
            return Response(begun.data, status=begun.status, headers={REPLAYED: "true"})
        status, data = 500, None
        try:
            response = handler(view, request, *args, key=key, **kwargs)
            status, data = response.status_code, response.data
        finally:
            end(request_id=begun, status=status, data=data)
        return response

    once.moves_money = True  # type: ignore[attr-defined]
    return extend_schema(parameters=[PARAMETER])(once)


PARAMETER = OpenApiParameter(
    HEADER,
    str,
    OpenApiParameter.HEADER,
    required=True,
    description="A name of your own for this request. The same key and body are carried out once: "
    "409 while the first runs, 422 with another body, 400 without a key.",
)


def _take_up(known: IdempotentRequest, at: datetime) -> UUID:
    """Its process seems to have died: one of those who ask takes it over."""
    free = IdempotentRequest.objects.filter(
        pk=known.pk, state=IdempotentRequest.State.RUNNING, lease_expires_at__lte=at
    )
    if not free.update(lease_expires_at=at + LEASE):
        raise _running()
    return known.pk


def _running() -> Refused:
    return Refused(
        409,
        "request_running",
        "The first request with this key is still running; ask again in a moment.",
    )


def _hash(request: Request) -> str:
    body = [request.method, request.path, request.data]
    return hashlib.sha256(json.dumps(body, sort_keys=True, default=str).encode()).hexdigest()
