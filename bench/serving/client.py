"""A load's client of the streaming API, as light as can be: it shares a core with the server.

One connection for each stream, HTTP/1.1 by hand; it looks for the events' ends alone and reads the
last chunks' usage. Pieces of text are not parsed.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

END = b"data: [DONE]"


@dataclass(slots=True)
class Answer:
    """One request: when it was sent, seconds to its first and last event, and its tokens.

    `chunks` are what came, each with its moment; they are looked into after the measurement.
    """

    began: float
    first: float
    whole: float
    tokens: int
    chunks: list[tuple[float, bytes]]

    def tokens_within(self, began: float, ended: float) -> float:
        """Those that were shown in these seconds, by the part of its text that was."""
        texts = [(moment, _characters(chunk)) for moment, chunk in self.chunks]
        inside = sum(many for moment, many in texts if began <= moment < ended)
        return self.tokens * inside / max(sum(many for _, many in texts), 1)


def _characters(chunk: bytes) -> int:
    """How many characters of text its events hold."""
    told = (one[6:] for one in chunk.split(b"\n\n") if one.startswith(b"data: {"))
    return sum(len(one["text"]) for event in told for one in json.loads(event)["choices"])


class Stream:
    """Asks one request after the other on a connection that stays open."""

    def __init__(self, port: int, secret: str) -> None:
        self._port, self._secret = port, secret
        self.events = 0  # seen so far, of all requests

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def close(self) -> None:
        self._writer.close()

    async def ask(self, model: str, prompt: list[int], tokens: int) -> Answer:
        body: dict[str, Any] = {
            "model": model,
            "prompt": prompt,
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        text = json.dumps(body).encode()
        head = (
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {self._secret}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(text)}\r\n\r\n"
        )
        began = time.perf_counter()
        self._writer.write(head.encode() + text)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        if " 200 " not in answer.split("\r\n")[0]:
            raise RuntimeError(answer + (await self._reader.read(2_000)).decode())
        first, last = 0.0, b""
        chunks: list[tuple[float, bytes]] = []
        while True:
            size = int(await self._reader.readline(), 16)
            chunk = (await self._reader.readexactly(size + 2))[:-2]
            if not size:
                break
            now = time.perf_counter()
            chunks.append((now, chunk))
            first = first or now - began
            self.events += chunk.count(b"\n\n")
            if END not in chunk or chunk.count(b"\n\n") > 1:
                last = chunk
        usage = json.loads(last.split(b"\n\n")[-2 if END not in last else -3][6:])["usage"]
        whole = time.perf_counter() - began
        return Answer(began, first, whole, usage["completion_tokens"], chunks)
