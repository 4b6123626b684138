"""The OpenAI-compatible API: /v1/chat/completions, /v1/completions, /v1/embeddings,
/v1/models.

Async views, because an answer is waited for by many clients at once. Each maps a request to one
service call; every refusal leaves in OpenAI's error shape.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, TypeVar

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

from accounts import api_keys, rate_limits
from accounts.models import ApiKey, Scope
from accounts.rate_limits import Allowance
from serving import selectors
from serving.answering import all_of, off_loop
from serving.errors import InvalidRequest, Refusal, ScopeMissing, TooManyRequests, UnknownKey
from serving.models import Completion
from serving.openai_api import asking, bodies, shapes, streaming
from serving.openai_api import embeddings as vectors
from serving.openai_api.starting import Starting
from serving.openai_api.streaming import check_answered

Response = TypeVar("Response", bound=HttpResponseBase)
View = Callable[..., Coroutine[Any, Any, HttpResponseBase]]


_starting = Starting()


class WrongMethod(Refusal):
    status = 405
    code = "method_not_allowed"


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
                with _starting.coming(_who(request)):
                    async with _starting.turn(_who(request)):
                        key, allowance = await off_loop(_admit, _who(request), method == "POST")
                        _starting.known(_who(request), key.user_id)
                        _check_within(allowance)
                    response = await view(request, key, *args, **kwargs)
            except Refusal as refusal:
                if isinstance(refusal, UnknownKey):
                    _starting.known(_who(request), None)
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
    return await _complete(request, key, bodies.read(_raw(request), bodies.ChatBody))


@openai_view("POST")
async def completions(request: HttpRequest, key: ApiKey) -> HttpResponseBase:
    return await _complete(request, key, bodies.read(_raw(request), bodies.TextBody))


@openai_view("POST")
async def embeddings(request: HttpRequest, key: ApiKey) -> HttpResponse:
    async with _starting.turn(_who(request)):
        made, body = await vectors.start(_raw(request), key)
    return await vectors.answer(made, body)


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


async def _complete(
    request: HttpRequest, key: ApiKey, body: bodies.ChatBody | bodies.TextBody
) -> HttpResponseBase:
    wishes, sampling = asking.wishes(body), body.checked_sampling()
    merge = body.merge_wish()
    async with _starting.turn(_who(request)):
        completions = await off_loop(asking.start, key, body.model, wishes, sampling, merge)
    shape = shapes.Shape(completions, body.model)
    if body.stream:
        answer = streaming.Streamed(
            completions,
            shape,
            with_usage=body.wants_usage(),
            with_receipts=request.headers.get(streaming.RECEIPTS_HEADER) == "receipt",
        )
        return _named(await answer.response(), completions)
    ended = await all_of(completions)
    for one in ended:
        check_answered(one)
    return _named(shapes.json_response(shape.whole(ended)), completions)


def _named(response: Response, completions: Sequence[Completion]) -> Response:
    """Tell which completion it is, its receipt, and the highest price, which was held before."""
    response["X-Completion-Id"] = ", ".join(str(one.pk) for one in completions)
    response["X-Receipt-Id"] = response["X-Completion-Id"]
    response["X-Highest-Fee-Wei"] = str(sum(one.highest_fee for one in completions))
    return response


def _who(request: HttpRequest) -> str:
    """Whoever sent this key, which is not known to be one yet."""
    return request.headers.get("Authorization", "")


def _admit(header: str, is_counted: bool) -> tuple[ApiKey, Allowance]:
    key = _authenticate(header)
    return key, rate_limits.take_request(key) if is_counted else Allowance()


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
