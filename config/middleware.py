"""The OpenAI-compatible API takes a short way: it knows people by keys alone.

What an address under `/v1/` needs of Django's middlewares looks at nothing but the request, and is
asked here, on the event loop. Sessions, messages, CSRF and whatever else pages have is for pages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.common import CommonMiddleware
from django.middleware.security import SecurityMiddleware
from django.urls import Resolver404, resolve

from accounts.middleware import POLICY

API = "/v1/"


class ShortWayForApi:
    """First of all middlewares; those after it see no request to the API.

    Of Django's it uses: TLS alone, its headers and `nosniff`; known hosts alone, and the length of
    an answer; no frames.
    """

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._pages = get_response
        self._security = SecurityMiddleware(get_response)
        self._common = CommonMiddleware(get_response)
        self._frames = XFrameOptionsMiddleware(get_response)
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
        # As between all middlewares: an error becomes an answer, which has its headers.
        ask = self._ask if self._is_async else async_to_sync(self._ask)
        self._api: Callable[[HttpRequest], Any] = convert_exception_to_response(ask)

    def __call__(self, request: HttpRequest) -> Any:
        if not _is_for_api(request):
            return self._pages(request)
        return self._wait(request) if self._is_async else self._sealed(request, self._api(request))

    async def _wait(self, request: HttpRequest) -> HttpResponseBase:
        return self._sealed(request, await self._api(request))

    async def _ask(self, request: HttpRequest) -> Any:
        refusal = self._security.process_request(request) or self._common.process_request(request)
        if refusal is not None:
            return refusal
        match = request.resolver_match
        assert match is not None
        return await match.func(request, *match.args, **match.kwargs)

    def _sealed(self, request: HttpRequest, response: Any) -> HttpResponseBase:
        """With the headers that every answer of ours has."""
        response.headers.setdefault("Content-Security-Policy", POLICY)
        for part in (self._frames, self._common, self._security):
            response = part.process_response(request, response)
        answer: HttpResponseBase = response
        return answer


def _is_for_api(request: HttpRequest) -> bool:
    """What is no address of the API gets the page that says so."""
    if not request.path_info.startswith(API):
        return False
    try:
        request.resolver_match = resolve(request.path_info)
    except Resolver404:
        return False
    return True
