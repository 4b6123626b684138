"""HTTP to one replica: is it well, what does it hold, load an adapter, answer.

The protocol is vLLM's as its documentation has it (https://docs.vllm.ai, "LoRA adapters" and
"OpenAI-compatible server"): /health, /v1/models, /v1/load_lora_adapter, /v1/unload_lora_adapter,
/v1/completions with token ids as prompt, `return_token_ids` and `cache_salt`. Redirects are never
followed, and each call resolves and checks the address anew (`addresses`).
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from serving.errors import BadAddress
from serving.external import addresses
from serving.models import Replica

CONNECT_SECONDS = 5.0
# Until the first token, which a queue may delay; then from one token to the next.
ANSWER_SECONDS = 120.0
LOAD_SECONDS = 120.0
ASK_SECONDS = 10.0
# Of one answer, and of one line of it: more is no answer.
MOST_BYTES = 64 << 20
MOST_LINE = 4 << 20
ERROR_SHOWN = 200


class ReplicaError(Exception):
    """The replica did not do what it was asked; `is_down` where it could not be reached."""

    is_down = False


class ReplicaDown(ReplicaError):
    is_down = True


class AdapterGone(ReplicaError):
    """It does not have this adapter, or no longer."""


class RequestRefused(ReplicaError):
    """It refuses this request, as any other replica would."""


@dataclass(frozen=True, slots=True)
class Delta:
    """A part of the answer: text, token ids where they are told, and at its end the reason."""

    text: str = ""
    ids: tuple[int, ...] = ()
    logprobs: Mapping[str, Any] | None = None
    finish_reason: str = ""
    usage: Mapping[str, Any] | None = None


@dataclass
class Call:
    """A running answer; `cancel` may come from any thread, at any time."""

    cancelled: threading.Event = field(default_factory=threading.Event)
    _socket: socket.socket | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def cancel(self, request_id: str = "") -> None:
        """Hang up: the server stops computing, and whoever reads here wakes up."""
        with self._lock:
            self.cancelled.set()
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def watch(self, name: str, info: Mapping[str, Any]) -> None:
        """httpcore tells each of its steps here; the socket is known before the answer begins."""
        if name not in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            return
        found = info["return_value"].get_extra_info("socket")
        with self._lock:
            self._socket = found
        if self.cancelled.is_set():
            self.cancel()

    def forget(self) -> None:
        """The socket is being closed: its number may soon be another's."""
        with self._lock:
            self._socket = None


class ReplicaClient:
    """For one replica; `key` is its secret, which no message of an error has."""

    def __init__(self, replica: Replica, key: str) -> None:
        self._base_url = replica.base_url
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def models(self) -> list[str]:
        """Ids of what it serves now: the base, and the adapters that are loaded."""
        answer = self._ask("GET", "/v1/models")
        try:
            return [str(one["id"]) for one in answer.json()["data"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ReplicaError("It has no list of models at /v1/models.") from error

    def check_health(self) -> None:
        """Of a vLLM, whose engine may be dead while its server answers."""
        self._ask("GET", "/health")

    def load(self, name: str, path: str) -> None:
        """Raises AdapterGone where it does not find the adapter there."""
        body = {"lora_name": name, "lora_path": path}
        try:
            self._ask("POST", "/v1/load_lora_adapter", body, seconds=LOAD_SECONDS)
        except RequestRefused as error:
            # Names are content hashes: what has this name already is this adapter.
            if "already" not in str(error):
                raise

    def unload(self, name: str) -> None:
        with contextlib.suppress(AdapterGone):
            self._ask("POST", "/v1/unload_lora_adapter", {"lora_name": name})

    def answer(self, path: str, body: Mapping[str, Any], call: Call) -> Generator[Delta]:
        """Stream a completion. Raises ReplicaError; ends early where the call is cancelled."""
        timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
        try:
            with (
                httpx.Client(timeout=timeout, trust_env=False) as client,
                self._request(client, "POST", path, body, call) as response,
            ):
                if response.status_code != httpx.codes.OK:
                    raise _refusal(response.status_code, _read_some(response))
                yield from _deltas(response)
        except (httpx.HTTPError, httpx.InvalidURL, BadAddress) as error:
            if not call.cancelled.is_set():
                raise _failure(error) from error
        finally:
            call.forget()

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        seconds: float = ASK_SECONDS,
    ) -> httpx.Response:
        timeout = httpx.Timeout(seconds, connect=CONNECT_SECONDS)
        try:
            with (
                httpx.Client(timeout=timeout, trust_env=False) as client,
                self._request(client, method, path, body, Call()) as response,
            ):
                content = _read_some(response)
                if response.status_code != httpx.codes.OK:
                    raise _refusal(response.status_code, content)
                return httpx.Response(response.status_code, content=content)
        except (httpx.HTTPError, httpx.InvalidURL, BadAddress) as error:
            raise _failure(error) from error

    @contextlib.contextmanager
    def _request(
        self,
        client: httpx.Client,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        call: Call,
    ) -> Iterator[httpx.Response]:
        where = addresses.target(self._base_url)
        with client.stream(
            method,
            where.url + path,
            json=body,
            headers={**self._headers, "Host": where.authority, "Accept-Encoding": "identity"},
            extensions={"sni_hostname": where.host, "trace": call.watch},
        ) as response:
            yield response


def _deltas(response: httpx.Response) -> Iterator[Delta]:
    read, is_whole = 0, False
    for line in _lines(response):
        read += len(line)
        if read > MOST_BYTES:
            raise ReplicaError("Its answer does not end.")
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            is_whole = True
            break
        yield _delta(data)
    if not is_whole:
        raise ReplicaDown("It broke off in the middle of its answer.")


def _lines(response: httpx.Response) -> Iterator[bytes]:
    """Split at line ends alone; an answer may hold any other separator of lines."""
    rest = b""
    for chunk in response.iter_raw():
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > MOST_LINE:
            raise ReplicaError("Its answer has no lines.")
        yield from whole


def _delta(data: bytes) -> Delta:
    try:
        event = json.loads(data)
        if "error" in event or event.get("object") == "error":
            raise ReplicaError(_words(data))
        usage = event.get("usage")
        choice = (event.get("choices") or [None])[0]
        if choice is None:
            return Delta(usage=usage)
        inner = choice.get("delta")
        text = inner.get("content") if isinstance(inner, dict) else choice.get("text")
        return Delta(
            text=str(text or ""),
            ids=tuple(int(one) for one in choice.get("token_ids") or ()),
            logprobs=choice.get("logprobs"),
            finish_reason=str(choice.get("finish_reason") or ""),
            usage=usage,
        )
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise ReplicaError("Its answer is no answer of the OpenAI API.") from error


def _read_some(response: httpx.Response) -> bytes:
    content = b""
    for chunk in response.iter_raw():
        content += chunk
        if len(content) > MOST_LINE:
            raise ReplicaError("Its answer is too long.")
    return content


def _refusal(status: int, content: bytes) -> ReplicaError:
    words = _words(content)
    if status == httpx.codes.NOT_FOUND:
        return AdapterGone(words)
    # 401 and 403 are about the house's key, 408 and 429 about its load: another may do it.
    if status in (400, 413, 422):
        return RequestRefused(words)
    return ReplicaError(f"It answered with {status}: {words}")


def _words(content: bytes) -> str:
    """The message of an error in OpenAI's shape, or the beginning of what it said."""
    try:
        found = json.loads(content)
        inner = found.get("error", found)
        words = inner.get("message", "") if isinstance(inner, dict) else str(inner)
    except (ValueError, AttributeError, RecursionError):
        words = content.decode(errors="replace")
    return " ".join(str(words).split())[:ERROR_SHOWN] or "no reason was given"


def _failure(error: Exception) -> ReplicaError:
    if isinstance(error, BadAddress):
        return ReplicaDown(error.message)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return ReplicaDown("It cannot be reached.")
    if isinstance(error, httpx.TimeoutException):
        return ReplicaError("It did not answer in time.")
    return ReplicaDown(f"The connection broke ({type(error).__name__}).")
