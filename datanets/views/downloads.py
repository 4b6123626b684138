"""Files for the person's disk: streamed piece by piece, never shown as a page of ours."""

from collections.abc import AsyncIterator, Iterable, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

PIECE = 1 << 16


def download(
    request: HttpRequest, body: Iterable[bytes], name: str, media_type: str
) -> StreamingHttpResponse:
    """An attachment called name, made from the body as the reader takes it."""
    pieces = _pieces(body)
    # Under ASGI a plain iterator would be read to its end before the first byte is sent.
    content = _asynchronous(pieces) if isinstance(request, ASGIRequest) else pieces
    response = StreamingHttpResponse(content, content_type=media_type)
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-._") else "-" for c in name)
    response["Content-Disposition"] = f'attachment; filename="{safe}"'
    response["X-Content-Type-Options"] = "nosniff"
    return response


def _pieces(body: Iterable[bytes]) -> Iterator[bytes]:
    """The body in pieces of some PIECE bytes, however short its parts are."""
    held = bytearray()
    for part in body:
        held += part
        if len(held) >= PIECE:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


async def _asynchronous(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (piece := await sync_to_async(_next)(pieces)) is not None:
        yield piece


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)
