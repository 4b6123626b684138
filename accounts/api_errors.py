"""What the API refuses by itself, each with a code for machines and a sentence for people.

The services' own refusals have both; this gives them to what never comes to a service: a body that
makes no sense, a missing sign-in, a wrong method. What Django REST framework tells stays beside.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.response import Response
from rest_framework.views import exception_handler


def with_code(error: Exception, context: dict[str, Any]) -> Response | None:
    """REST framework's answer to `error`, with `code` and `message`; None where it has none."""
    response = exception_handler(error, context)
    if response is None or not isinstance(response.data, dict):
        return response
    first = next(_details(response.data, ""), None)
    if first is not None:
        field, detail = first
        named = isinstance(error, ValidationError) and field
        told = {"code": detail.code, "message": f"{field}: {detail}" if named else str(detail)}
        # A field of the body that goes by one of these names keeps its own.
        response.data = told | response.data
    return response


def _details(data: Any, field: str) -> Iterator[tuple[str, ErrorDetail]]:
    if isinstance(data, ErrorDetail):
        yield field, data
    elif isinstance(data, dict):
        for key, one in data.items():
            yield from _details(one, f"{field}.{key}" if field else str(key))
    elif isinstance(data, list):
        for one in data:
            yield from _details(one, field)
