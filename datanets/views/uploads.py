"""The tus 1.0 endpoint: creation, expiration, termination.

https://tus.io/protocols/resumable-upload. A chunk is read with request.read() piece by piece: a
connection that breaks within it leaves what had arrived, and the client goes on from there.
"""

import base64
import binascii
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.request import RawPostDataException, UnreadablePostError
from django.urls import reverse
from django.utils import timezone
from django.utils.http import http_date
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from datanets.errors import DatanetError
from datanets.models import Datanet, Upload, UploadState
from datanets.services import uploads
from datanets.views.common import act, person, with_datanet

VERSION = "1.0.0"
CHUNK_TYPE = "application/offset+octet-stream"
PIECE = 64 * 1024


@require_http_methods(["OPTIONS", "POST"])
@with_datanet("contribute")
def create(request: HttpRequest, datanet: Datanet) -> HttpResponse:
    """OPTIONS tells what is spoken; POST opens an upload."""
    if request.method == "OPTIONS":
        return _answer(204, **_capabilities())
    if problem := _wrong_version(request):
        return problem
    size = _integer(request.headers.get("Upload-Length"))
    if size is None:
        return _answer(400, "Upload-Length must be a number of bytes.")
    try:
        upload = uploads.start_upload(
            datanet=datanet,
            name=_metadata(request).get("filename", ""),
            size=size,
            acting_user=person(request),
            at=timezone.now(),
        )
    except DatanetError as error:
        return _answer(error.status, error.message)
    location = request.build_absolute_uri(reverse("datanets:upload", args=[upload.pk]))
    return _answer(201, Location=location, **_offset(upload))


@never_cache
@require_http_methods(["OPTIONS", "HEAD", "PATCH", "DELETE"])
def upload(request: HttpRequest, upload_id: UUID) -> HttpResponse:
    """HEAD asks how far it is, PATCH adds bytes, DELETE ends it."""
    if request.method == "OPTIONS":
        return _answer(204, **_capabilities())
    if problem := _wrong_version(request):
        return problem
    if not request.user.is_authenticated:
        return _answer(401, "Sign in, then go on with the upload.")
    found = Upload.objects.select_related("datanet", "user").filter(
        pk=upload_id, user=person(request)
    ).first()  # fmt: skip
    if found is None:
        return _answer(404, "This upload is unknown.")
    try:
        return _VERBS[str(request.method)](request, found)
    except DatanetError as error:
        return _answer(error.status, error.message, **{"Upload-Offset": str(found.offset)})


@with_datanet("contribute")
@require_POST
def discard(request: HttpRequest, datanet: Datanet, upload_id: UUID) -> HttpResponse:
    """The page's button for an upload that nobody will continue."""
    then = reverse("datanets:contribute", args=[datanet.slug])
    found = Upload.objects.filter(
        pk=upload_id, user=person(request), datanet=datanet, state=UploadState.OPEN
    ).first()  # fmt: skip
    if found is None:
        return act(request, then, lambda **_: None)
    return act(request, then, uploads.cancel_upload, "The upload is thrown away.", upload=found)


def _head(request: HttpRequest, found: Upload) -> HttpResponse:
    if found.state not in (UploadState.OPEN, UploadState.COMPLETE):
        return _answer(410, "This upload is over. Start it again.")
    return _answer(200, **{"Upload-Length": str(found.size)}, **_offset(found))


def _patch(request: HttpRequest, found: Upload) -> HttpResponse:
    if request.content_type != CHUNK_TYPE:
        return _answer(415, f"Send bytes as {CHUNK_TYPE}.")
    offset = _integer(request.headers.get("Upload-Offset"))
    if offset is None:
        return _answer(400, "Upload-Offset must be a number of bytes.")
    data = _read(request)
    found = uploads.append_chunk(upload=found, offset=offset, data=data, at=timezone.now())
    return _answer(204, **_offset(found))


def _delete(request: HttpRequest, found: Upload) -> HttpResponse:
    uploads.cancel_upload(upload=found, acting_user=found.user, at=timezone.now())
    return _answer(204)


_VERBS = {"HEAD": _head, "PATCH": _patch, "DELETE": _delete}


def _read(request: HttpRequest) -> bytes:
    """The body, or as much of it as came before the connection broke."""
    data = bytearray()
    while len(data) <= uploads.MAX_CHUNK_BYTES:
        try:
            piece = request.read(PIECE)
        except (UnreadablePostError, RawPostDataException):
            break
        if not piece:
            break
        data += piece
    return bytes(data)


def _offset(found: Upload) -> dict[str, Any]:
    headers: dict[str, Any] = {"Upload-Offset": found.offset}
    if found.state == UploadState.OPEN:
        headers["Upload-Expires"] = http_date(found.expires_at.timestamp())
    elif contribution := uploads.contribution_of(found):
        headers["OpenLedger-Contribution"] = contribution.get_absolute_url()
    return headers


def _capabilities() -> dict[str, Any]:
    return {
        "Tus-Version": VERSION,
        "Tus-Extension": "creation,expiration,termination",
        "Tus-Max-Size": settings.UPLOAD_FILE_BYTES,
    }


def _wrong_version(request: HttpRequest) -> HttpResponse | None:
    if request.headers.get("Tus-Resumable") == VERSION:
        return None
    return _answer(412, f"Speak tus {VERSION}.", **{"Tus-Version": VERSION})


def _metadata(request: HttpRequest) -> dict[str, str]:
    """Upload-Metadata: keys with base64 values, separated by commas."""
    found = {}
    for pair in request.headers.get("Upload-Metadata", "").split(","):
        key, _, value = pair.strip().partition(" ")
        try:
            found[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
    return found


def _integer(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else None


def _answer(status: int, message: str = "", **headers: Any) -> HttpResponse:
    response = HttpResponse(message, status=status, content_type="text/plain; charset=utf-8")
    if status == 204:
        del response["Content-Type"]
    response["Tus-Resumable"] = VERSION
    response["Cache-Control"] = "no-store"
    for name, value in headers.items():
        response[name] = str(value)
    return response
