"""The chat page: asks as the person who is signed in, with their own balance.

Its endpoints take the same bodies as /v1/chat/completions and speak in events of their own, which
carry what the answer cost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from functools import wraps
from typing import Any

import msgspec
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts.models import User
from ledger.selectors import balance
from ledger.words import open_text
from serving import arrivals, selectors
from serving.answering import answer_of, off_loop
from serving.errors import InvalidRequest, Refusal
from serving.forms import price_text
from serving.limits import DEFAULT_MAX_TOKENS
from serving.merges import Merged, resolve
from serving.models import Completion, CompletionState, Deployment
from serving.openai_api import bodies, shapes
from serving.services.completions import quote as quote_service
from serving.services.completions import refusal_of, start_completion
from serving.streams import End

View = Callable[..., Coroutine[Any, Any, HttpResponseBase]]


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """`?model=` chooses the model beforehand."""
    found = list(selectors.usable_deployments(request.user))
    wanted = request.GET.get("model", "")
    tuned = [one for one in found if one.model_id]
    chosen = next((one for one in found if one.name == wanted), None)
    if chosen is None and found:
        chosen = (tuned or found)[-1]
    user = request.user if isinstance(request.user, User) else None
    context = {
        "can_blend": bool(tuned),
        "address": f"{settings.SITE_URL}/v1",
        "deployments": [_option(one, found) for one in found],
        "chosen": chosen.name if chosen else "",
        "wanted_but_missing": wanted if wanted and (not chosen or chosen.name != wanted) else "",
        "balance": balance(user) if user else None,
        "default_max_tokens": DEFAULT_MAX_TOKENS,
    }
    return render(request, "serving/playground.html", context)


class SignInFirst(Refusal):
    status = 401
    kind = "authentication_error"
    code = "sign_in"


def person_view(view: View) -> View:
    """POST by a person who is signed in; refusals leave as JSON."""

    @require_POST
    @wraps(view)
    async def wrapped(request: HttpRequest) -> HttpResponseBase:
        try:
            user = await request.auser()
            if not isinstance(user, User):
                raise SignInFirst("Sign in to ask a model.")
            return await view(request, user)
        except Refusal as refusal:
            return shapes.refusal(refusal)

    return wrapped


@person_view
async def quote(request: HttpRequest, user: User) -> HttpResponse:
    """What the question would cost at most, before it is sent."""
    body = _body(request)

    def priced() -> dict[str, Any]:
        deployment = selectors.usable_deployment(name=body.model, user=user)
        sampling = body.checked_sampling()
        offer = quote_service(
            deployment=deployment,
            question=body.question(),
            max_tokens=sampling.max_tokens,
            merge=_merge(body, deployment, user),
        )
        refused = refusal_of(payer=user, offer=offer, at=timezone.now())
        return {
            "prompt_tokens": len(offer.prompt.ids),
            "retrieval_tokens": offer.retrieval_tokens,
            "max_tokens": offer.max_tokens,
            "highest_fee_wei": str(offer.highest_fee),
            "highest_fee": open_text(offer.highest_fee),
            "balance": open_text(balance(user)),
            "affordable": refused is None,
            "refusal": refused.message if refused else "",
        }

    return shapes.json_response(await off_loop(priced))


@person_view
async def ask(request: HttpRequest, user: User) -> StreamingHttpResponse:
    """Start a completion and stream its events: start, piece, end or error."""
    arrivals.tell(user.pk)
    body = _body(request)

    def start() -> Completion:
        deployment = selectors.usable_deployment(name=body.model, user=user)
        return start_completion(
            deployment=deployment,
            merge=_merge(body, deployment, user),
            question=body.question(),
            sampling=body.checked_sampling(),
            payer=user,
            acting_user=user,
            at=timezone.now(),
        )

    completion = await off_loop(start)

    async def events() -> AsyncIterator[bytes]:
        async with aclosing(answer_of(completion)) as answer:  # type: ignore[type-var]
            yield _event({"type": "start", "completion": str(completion.pk)})
            async for event in answer:
                if isinstance(event, End):
                    yield _event(_ended(event.completion))
                else:
                    yield _event({"type": "piece", "text": event.text})

    response = StreamingHttpResponse(events(), content_type="text/event-stream; charset=utf-8")
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    response["X-Completion-Id"] = str(completion.pk)
    return response


def _merge(body: bodies.ChatBody, deployment: Deployment, user: User) -> Merged | None:
    wish = body.merge_wish()
    if wish is None:
        return None
    return resolve(wish=wish, deployment=deployment, user=user, at=timezone.now())


def _ended(completion: Completion) -> dict[str, Any]:
    if completion.state == CompletionState.FAILED:
        return {"type": "error", "message": completion.failure_reason}
    return {
        "type": "end",
        "state": completion.state,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "fee": open_text(completion.fee),
        "fee_wei": str(completion.fee),
        "url": completion.get_absolute_url(),
    }


def _option(deployment: Deployment, found: list[Deployment]) -> dict[str, Any]:
    bases = {one.base_model_id: one.name for one in found if one.model_id is None}
    return {
        "name": deployment.name,
        "title": deployment.model.name if deployment.model else deployment.base_model.name,
        "is_base": deployment.model_id is None,
        "base": bases.get(deployment.base_model_id, "") if deployment.model_id else "",
        "input_price": price_text(deployment.input_price),
        "output_price": price_text(deployment.output_price),
        "context": deployment.base_model.context_length,
    }


def _body(request: HttpRequest) -> bodies.ChatBody:
    try:
        return bodies.read(request.body, bodies.ChatBody)
    except RequestDataTooBig as error:
        raise InvalidRequest("The conversation is too long to send.") from error


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"
