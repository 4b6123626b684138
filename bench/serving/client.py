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
    """One request: when it was sent, seconds to its first and last event, and its tokens."""

    began: float
    first: float
    whole: float
    tokens: int

    def tokens_within(self, began: float, ended: float) -> float:
        """Those of these seconds, as if they came evenly from the first to the last."""
        first, last = self.began + self.first, self.began + self.whole
        inside = max(0.0, min(last, ended) - max(first, began))
        return self.tokens * inside / max(last - first, 1e-9)


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
        while True:
            size = int(await self._reader.readline(), 16)
            chunk = (await self._reader.readexactly(size + 2))[:-2]
            if not size:
                break
            first = first or time.perf_counter() - began
            self.events += chunk.count(b"\n\n")
            if END not in chunk or chunk.count(b"\n\n") > 1:
                last = chunk
        usage = json.loads(last.split(b"\n\n")[-2 if END not in last else -3][6:])["usage"]
        return Answer(began, first, time.perf_counter() - began, usage["completion_tokens"])
