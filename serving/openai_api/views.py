"""The OpenAI-compatible API: /v1/chat/completions, /v1/completions, /v1/models.

Async views, because an answer is waited for by many clients at once. Each maps a request to one
service call; every refusal leaves in OpenAI's error shape.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from functools import wraps
from typing import Any, TypeVar

import msgspec
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

from accounts import api_keys, rate_limits
from accounts.models import ApiKey, Scope
from accounts.rate_limits import Allowance
from serving import selectors
from serving.answering import answer_of, end_of, off_loop
from serving.errors import InvalidRequest, Refusal, ScopeMissing, TooManyRequests, UnknownKey
from serving.models import Completion, CompletionState
from serving.openai_api import bodies, shapes
from serving.services.completions import start_completion
from serving.streams import End

Response = TypeVar("Response", bound=HttpResponseBase)
View = Callable[..., Coroutine[Any, Any, HttpResponseBase]]


class WrongMethod(Refusal):
    status = 405
    code = "method_not_allowed"


class AnswerFailed(Refusal):
    """The worker could not answer; nothing was charged."""

    status = 500
    kind = "server_error"
    code = "completion_failed"


def openai_view(method: str) -> Callable[[View], View]:
    """Check method and key, hand the view its ApiKey, and turn refusals into responses."""

    def decorate(view: View) -> View:
        @csrf_exempt
        @wraps(view)
        async def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            allowance = Allowance()
            try:
                if request.method != method:
                    raise WrongMethod(f"Use {method} here, not {request.method}.")
                key = await off_loop(_authenticate, request.headers.get("Authorization", ""))
                if method == "POST":
                    allowance = await off_loop(_take_request, key)
                    _check_within(allowance)
                response = await view(request, key, *args, **kwargs)
            except Refusal as refusal:
                response = shapes.refusal(refusal)
                if isinstance(refusal, WrongMethod):
                    response["Allow"] = method
            for name, value in allowance.headers.items():
                response[name] = value
            return response

        return wrapped

    return decorate


@openai_view("POST")
async def chat_completions(request: HttpRequest, key: ApiKey) -> HttpResponseBase:
    return await _complete(key, bodies.read(_raw(request), bodies.ChatBody))


@openai_view("POST")
async def completions(request: HttpRequest, key: ApiKey) -> HttpResponseBase:
    return await _complete(key, bodies.read(_raw(request), bodies.TextBody))


@openai_view("GET")
async def models(request: HttpRequest, key: ApiKey) -> HttpResponse:
    def listed() -> list[dict[str, Any]]:
        return [shapes.model(one) for one in selectors.usable_deployments(key.user)]

    return shapes.json_response({"object": "list", "data": await off_loop(listed)})


@openai_view("GET")
async def model(request: HttpRequest, key: ApiKey, name: str) -> HttpResponse:
    def found() -> dict[str, Any]:
        return shapes.model(selectors.usable_deployment(name=name, user=key.user))

    return shapes.json_response(await off_loop(found))


@openai_view("GET")
async def unknown(request: HttpRequest, key: ApiKey, rest: str) -> HttpResponse:
    raise _NoSuchAddress(f"There is nothing at /v1/{rest[:100]}.")


class _NoSuchAddress(Refusal):
    status = 404
    code = "unknown_url"


async def _complete(key: ApiKey, body: bodies.ChatBody | bodies.TextBody) -> HttpResponseBase:
    question, sampling = body.question(), body.checked_sampling()

    def start() -> Completion:
        deployment = selectors.usable_deployment(name=body.model, user=key.user)
        started = start_completion(
            deployment=deployment,
            question=question,
            sampling=sampling,
            payer=key.user,
            api_key=key,
            acting_user=key.user,
            at=timezone.now(),
        )
        rate_limits.count_tokens(key.pk, started.prompt_tokens)
        return started

    completion = await off_loop(start)
    shape = shapes.Shape(completion, body.model)
    if body.stream:
        return await _streamed(completion, shape, with_usage=body.wants_usage())
    ended = await end_of(completion)
    _check_answered(ended)
    return _named(shapes.json_response(shape.whole(ended)), completion)


def _named(response: Response, completion: Completion) -> Response:
    """Tell which completion it is, its receipt, and the highest price, which was held before."""
    response["X-Completion-Id"] = str(completion.pk)
    response["X-Receipt-Id"] = str(completion.pk)
    response["X-Highest-Fee-Wei"] = str(completion.highest_fee)
    return response


async def _streamed(
    completion: Completion, shape: shapes.Shape, *, with_usage: bool
) -> StreamingHttpResponse:
    """Waits for the first token, so that what fails before it has an HTTP status of its own."""
    events = answer_of(completion)
    try:
        first = await anext(events)
        if isinstance(first, End):
            _check_answered(first.completion)
    except BaseException:
        await events.aclose()  # type: ignore[attr-defined]
        raise

    async def chunks() -> AsyncIterator[bytes]:
        async with aclosing(events):  # type: ignore[type-var]
            if (role := shape.role()) is not None:
                yield _data(role)
            event = first
            while not isinstance(event, End):
                yield _data(shape.piece(event.text))
                event = await anext(events)
        if event.completion.state == CompletionState.FAILED:
            yield _data(shapes.error_body(AnswerFailed(event.completion.failure_reason)))
            return
        yield _data(shape.finish(event.completion, usage_follows=with_usage))
        if with_usage:
            yield _data(shape.usage(event.completion))
        yield b"data: [DONE]\n\n"

    response = StreamingHttpResponse(chunks(), content_type="text/event-stream; charset=utf-8")
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return _named(response, completion)


def _check_answered(completion: Completion) -> None:
    if completion.state == CompletionState.FAILED:
        raise AnswerFailed(completion.failure_reason or "The model could not answer.")


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def _authenticate(header: str) -> ApiKey:
    scheme, _, secret = header.partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise UnknownKey("Send your API key as `Authorization: Bearer olk_…`.")
    key = api_keys.authenticate(secret.strip(), at=timezone.now())
    if key is None:
        raise UnknownKey("This API key is unknown, expired or revoked.")
    if not key.opens(Scope.ASK):
        raise ScopeMissing(
            "This key has no scope ASK. Make one that has it on the page of your keys "
            "(/people/me/keys/)."
        )
    return key


def _take_request(key: ApiKey) -> Allowance:
    return rate_limits.take_request(key, timezone.now().timestamp())


def _check_within(allowance: Allowance) -> None:
    if (over := allowance.exceeded) is not None:
        raise TooManyRequests(
            f"This key may ask for {over.quota} {over.name} in a minute; "
            f"try again in {max(1, over.reset)} seconds."
        )


def _raw(request: HttpRequest) -> bytes:
    try:
        return request.body
    except RequestDataTooBig as error:
        raise InvalidRequest("The body is too large.") from error
