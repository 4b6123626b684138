"""A connection that breaks within a chunk, or between two, costs at most that chunk.

Real sockets against a real server; the bytes of the blob are compared at the end.
"""

import base64
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from django.conf import settings as django_settings
from django.test import Client

from accounts.blobs import read_bytes
from accounts.models import User
from datanets.models import Contribution, Datanet, Upload
from datanets.services.uploads import CHUNK_BYTES

from .conftest import run_tasks

CHUNK = "application/offset+octet-stream"


@pytest.fixture
def content() -> bytes:
    """Five million bytes of rows, so that there are three chunks."""
    row = b'{"question": "Which row?", "answer": "%06d %s"}\n'
    return b"".join(row % (number, b"x" * 960) for number in range(4_900))


@pytest.fixture
def session(
    live_server: Any, published: Datanet, contributor: User, browser: Callable[..., Client]
) -> httpx.Client:
    """A signed-in client of the live server with its CSRF token."""
    client = browser(contributor)
    client.get(f"/datanets/{published.slug}/contribute/")
    name = django_settings.SESSION_COOKIE_NAME
    token = client.cookies["csrftoken"].value
    cookies = {name: client.cookies[name].value, "csrftoken": token}
    headers = {"X-CSRFToken": token, "Tus-Resumable": "1.0.0", "Referer": live_server.url}
    return httpx.Client(base_url=live_server.url, cookies=cookies, headers=headers, timeout=60)


def patch_and_hang_up(session: httpx.Client, url: str, offset: int, sent: bytes, size: int) -> None:
    """Announce `size` bytes, send fewer, close the socket."""
    request = session.build_request(
        "PATCH",
        url,
        headers={"Content-Type": CHUNK, "Upload-Offset": str(offset), "Content-Length": str(size)},
    )
    address = urlsplit(str(session.base_url))
    lines = [f"PATCH {urlsplit(url).path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + sent)
        time.sleep(0.2)


def settled_offset(session: httpx.Client, url: str) -> int:
    """The offset once the server has noticed the cut."""
    last = -1
    for _ in range(50):
        offset = int(session.head(url).headers["Upload-Offset"])
        if offset == last:
            return offset
        last = offset
        time.sleep(0.2)
    return last


@pytest.mark.django_db(transaction=True)
def test_cuts_within_and_between_chunks_lose_nothing(
    session: httpx.Client, published: Datanet, content: bytes, settings: Any, tmp_path: Path
) -> None:
    name = base64.b64encode(b"rows.jsonl").decode()
    created = session.post(
        f"/datanets/{published.slug}/uploads/",
        headers={"Upload-Length": str(len(content)), "Upload-Metadata": f"filename {name}"},
    )
    assert created.status_code == 201
    url = created.headers["Location"]

    patch_and_hang_up(session, url, 0, content[:700_000], CHUNK_BYTES)
    offset = settled_offset(session, url)
    assert 0 <= offset <= 700_000

    chunk = content[offset : offset + CHUNK_BYTES]
    answer = session.patch(
        url, content=chunk, headers={"Content-Type": CHUNK, "Upload-Offset": str(offset)}
    )
    assert answer.status_code == 204
    session.close()
    again = httpx.Client(
        base_url=session.base_url, cookies=session.cookies, headers=session.headers, timeout=60
    )
    assert settled_offset(again, url) == offset + len(chunk)

    offset += len(chunk)
    patch_and_hang_up(again, url, offset, content[offset : offset + 10], CHUNK_BYTES)
    offset = settled_offset(again, url)
    while offset < len(content):
        chunk = content[offset : offset + CHUNK_BYTES]
        answer = again.patch(
            url, content=chunk, headers={"Content-Type": CHUNK, "Upload-Offset": str(offset)}
        )
        assert answer.status_code == 204
        offset = int(answer.headers["Upload-Offset"])

    assert Upload.objects.get().state == "COMPLETE"
    run_tasks()
    contribution = Contribution.objects.get()
    assert contribution.state == "MAPPING"
    assert read_bytes(contribution.file_id) == content
