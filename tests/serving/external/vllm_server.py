"""A server that speaks vLLM's documented protocol, with its faults on demand. No model computes.

What it answers is a fixed text, told token by token with the ids of the base's tokenizer, as a vLLM
does that was asked for `return_token_ids`. Shapes and statuses are those of vLLM's documentation.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from config.embedded.paths import free_port
from modelfactory.training.prompts import PromptTokenizer

TEXT = "A contributor uploads a file, and reviewers read each record of it."


@dataclass
class Server:
    """The faults are attributes, so a test sets what goes wrong and when."""

    tokenizer: PromptTokenizer
    base: str = "starter-there"
    key: str = ""
    text: str = TEXT
    loads_adapters: bool = True
    tells_ids: bool = True
    healthy: bool = True
    load_seconds: float = 0.0
    token_seconds: float = 0.0
    failing: int = 0  # requests that get a 500
    drop_after: int | None = None  # tokens, then the connection breaks
    error_after: int | None = None  # tokens, then an error event
    usage: dict[str, int] | None = None
    port: int = 0
    loaded: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    hung_up: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def evict(self) -> None:
        """As a restart does: it knows its base alone."""
        self.loaded.clear()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        path, body = scope["path"], b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        body += message.get("body", b"")
        self.calls.append(path)
        headers = dict(scope["headers"])
        if path == "/health":
            return await _reply(send, 200 if self.healthy else 503, None)
        if self.key and headers.get(b"authorization") != f"Bearer {self.key}".encode():
            return await _reply(send, 401, {"error": "Unauthorized"})
        if path == "/v1/models":
            names = [self.base, *self.loaded]
            return await _reply(send, 200, {"object": "list", "data": [_card(n) for n in names]})
        given = json.loads(body)
        if path == "/v1/load_lora_adapter" and self.loads_adapters:
            return await self._load(given, send)
        if path == "/v1/unload_lora_adapter" and self.loads_adapters:
            if self.loaded.pop(given["lora_name"], None) is None:
                return await _fault(
                    send, 404, f"The lora adapter '{given['lora_name']}' cannot be found."
                )
            return await _reply(send, 200, "Success: removed")
        if path in ("/v1/completions", "/v1/chat/completions"):
            return await self._answer(given, path, receive, send)
        return await _fault(send, 404, "Not Found")

    async def _load(self, given: dict[str, Any], send: Any) -> None:
        name, path = given["lora_name"], Path(given["lora_path"])
        await asyncio.sleep(self.load_seconds)
        if name in self.loaded:
            return await _fault(send, 400, f"The lora adapter '{name}' has already been loaded.")
        if not (path / "adapter_model.safetensors").exists():
            return await _fault(
                send, 404, f"Loading lora {name} failed: No adapter found for {path}"
            )
        self.loaded[name] = str(path)
        await _reply(send, 200, f"Success: LoRA adapter '{name}' added successfully.")

    async def _answer(self, given: dict[str, Any], path: str, receive: Any, send: Any) -> None:
        self.asked.append(given | {"path": path})
        if given["model"] not in (self.base, *self.loaded):
            return await _fault(send, 404, f"The model `{given['model']}` does not exist.")
        if self.failing:
            self.failing -= 1
            return await _fault(send, 500, "EngineCore encountered an issue.")
        if not given["max_tokens"]:
            return await _fault(send, 400, "max_tokens must be at least 1")
        gone = asyncio.Event()
        listening = asyncio.ensure_future(self._listen(receive, gone))
        try:
            await self._stream(given, path == "/v1/chat/completions", send, gone)
        finally:
            listening.cancel()

    async def _stream(
        self, given: dict[str, Any], is_chat: bool, send: Any, gone: asyncio.Event
    ) -> None:
        await send(_start(200, b"text/event-stream; charset=utf-8"))
        every = self.tokenizer.encode(self.text)
        ids = every[: given["max_tokens"]]
        finish = "length" if len(ids) == given["max_tokens"] else "stop"
        shown = ""
        for place, token in enumerate(ids):
            if place == self.drop_after:
                raise ConnectionResetError("dropped on demand")
            if place == self.error_after:
                await send(_event({"error": {"message": "EngineDeadError", "code": 500}}))
                return
            if gone.is_set():
                return
            await asyncio.sleep(self.token_seconds)
            text = self.tokenizer.decode(ids[: place + 1])[len(shown) :]
            shown += text
            choice: dict[str, Any] = {"index": 0, "finish_reason": None}
            choice |= {"delta": {"content": text}} if is_chat else {"text": text}
            if self.tells_ids and given.get("return_token_ids"):
                choice["token_ids"] = [token]
            if (top := given.get("logprobs")) is not None:
                choice["logprobs"] = {
                    "tokens": [f"token_id:{token}"],
                    "token_logprobs": [-0.5],
                    "top_logprobs": [{f"token_id:{token}": -0.5} if top else None],
                    "text_offset": [0],
                }
            if place == len(ids) - 1:
                choice["finish_reason"] = finish
            await send(_event({"object": "text_completion", "choices": [choice]}))
        prompt = given.get("prompt")
        usage = self.usage or {
            "prompt_tokens": len(prompt) if isinstance(prompt, list) else 7,
            "completion_tokens": len(ids),
        }
        await send(_event({"object": "text_completion", "choices": [], "usage": usage}))
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def _listen(self, receive: Any, gone: asyncio.Event) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()
        self.hung_up.set()


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """On a port of its own, in a thread."""
    server.port = free_port(9100)
    config = uvicorn.Config(
        server, host="127.0.0.1", port=server.port, log_level="critical", lifespan="off"
    )
    web = uvicorn.Server(config)
    thread = threading.Thread(target=web.run, daemon=True)
    thread.start()
    until = time.monotonic() + 10
    while not web.started:
        assert time.monotonic() < until
        time.sleep(0.01)
    try:
        yield server
    finally:
        web.should_exit = True
        thread.join(timeout=10)


def _card(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "owned_by": "vllm"}


def _start(status: int, content_type: bytes) -> dict[str, Any]:
    headers = [(b"content-type", content_type)]
    return {"type": "http.response.start", "status": status, "headers": headers}


def _event(value: dict[str, Any]) -> dict[str, Any]:
    line = b"data: " + json.dumps(value).encode() + b"\n\n"
    return {"type": "http.response.body", "body": line, "more_body": True}


async def _reply(send: Any, status: int, value: Any) -> None:
    await send(_start(status, b"application/json"))
    await send({"type": "http.response.body", "body": json.dumps(value).encode()})


async def _fault(send: Any, status: int, message: str) -> None:
    error = {"message": message, "type": "Error", "param": None, "code": status}
    await _reply(send, status, {"error": error})
