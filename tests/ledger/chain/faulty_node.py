"""A node that is not to be trusted: a JSON-RPC proxy before a real one, which fails as it is told.

It answers single calls and batches. Faults of raw sends are counted down, the others last until
they are lifted.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ledger.chain.keccak import keccak256

SEND = "eth_sendRawTransaction"
RECEIPT = "eth_getTransactionReceipt"
GARBAGE = (
    b"<html><h1>502 Bad Gateway</h1></html>", b"", b"\xff\xfe\x00garbage", b"[]", b"{}", b"17",
    b'{"jsonrpc":"2.0","id":0,"result":{"number":"never"}}', b'[{"id":1},{"id":1}]', b"null",
    b'{"jsonrpc":"2.0","id":0,"result":"0xzz"}',
)  # fmt: skip


class FaultyNode:
    """`with FaultyNode(url) as node`: a node at `node.url`."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.mode = "well"  # or absent, garbage, slow, stale
        self.drop_sends = 0  # taken, and forgotten
        self.lose_answers = 0  # taken by the node, but the answer is lost
        self.refuse_sends: list[str] = []  # one reason for each of the next sends
        self.refuse_always = ""  # what is said to each send whose bytes hold `refuse_bytes`
        self.refuse_bytes = ""
        # What a single answer is made into; None in its place cuts the connection.
        self.twist: Callable[[str, list[Any], dict[str, Any]], Any] | None = None
        self.takes_batches = True
        self.slowness = 1.0
        self.seen: Counter[str] = Counter()
        self.requests = 0
        self._frozen: dict[str, Any] = {}
        self._garbage = 0
        self._lock = threading.Lock()

    def __enter__(self) -> FaultyNode:
        node = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = node.answer(body)
                if answer is None:
                    self.close_connection = True
                    return
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def freeze(self) -> None:
        """From now on tell of the chain as it is at this moment, as a node that fell behind."""
        self._frozen.clear()
        self.mode = "stale"
        self._frozen["height"] = self._ask("eth_blockNumber", [])
        for tag in ("safe", "finalized"):
            block = self._ask("eth_getBlockByNumber", [tag, False])
            self._frozen[tag] = block["number"] if block else self._frozen["height"]

    def well(self) -> None:
        self.mode = "well"

    def answer(self, body: bytes) -> bytes | None:
        """The bytes of an answer; None cuts the connection."""
        self.requests += 1
        if self.mode == "absent":
            return None
        if self.mode == "garbage":
            with self._lock:
                self._garbage += 1
                return GARBAGE[self._garbage % len(GARBAGE)]
        if self.mode == "slow":
            time.sleep(self.slowness)
        calls = json.loads(body)
        if isinstance(calls, dict):
            answer = self._one(calls)
            return None if answer is None else json.dumps(answer).encode()
        if not self.takes_batches:
            error = {"code": -32600, "message": "batch requests are not supported"}
            return json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()
        answers = [self._one(call) for call in calls]
        if any(one is None for one in answers):
            return None
        return json.dumps(answers).encode()

    def _one(self, call: dict[str, Any]) -> dict[str, Any] | None:
        method, parameters = call["method"], call["params"]
        self.seen[method] += 1
        head = {"jsonrpc": "2.0", "id": call["id"]}
        if method == SEND:
            faulty = self._send(parameters[0])
            if faulty is not None:
                return None if faulty == "lost" else head | {"id": call["id"]} | faulty
        if self.mode == "stale":
            return head | {"result": self._stale(method, parameters)}
        answer = head | self._forward(method, parameters)
        return answer if self.twist is None else self.twist(method, parameters, answer)

    def _send(self, raw: str) -> Any:
        with self._lock:
            if self.refuse_bytes and self.refuse_bytes in raw:
                return {"error": {"code": -32000, "message": self.refuse_always}}
            if self.refuse_sends:
                return {"error": {"code": -32000, "message": self.refuse_sends.pop()}}
            if self.drop_sends:
                self.drop_sends -= 1
                return {"result": "0x" + keccak256(bytes.fromhex(raw[2:])).hex()}
            lose = self.lose_answers > 0
            self.lose_answers -= lose
        if lose:
            self._forward(SEND, [raw])
            return "lost"
        return None

    def _stale(self, method: str, parameters: list[Any]) -> Any:
        """Nothing that was mined since is known; what is sent is taken, and goes nowhere."""
        if method == SEND:
            return "0x" + keccak256(bytes.fromhex(parameters[0][2:])).hex()
        height = self._frozen["height"]
        if method == RECEIPT:
            found = self._ask(method, parameters)
            late = found is None or int(found["blockNumber"], 16) > int(height, 16)
            return None if late else found
        tags = self._frozen | {"latest": height, "pending": height}
        asked = [tags.get(one, one) if isinstance(one, str) else one for one in parameters]
        return height if method == "eth_blockNumber" else self._ask(method, asked)

    def _ask(self, method: str, parameters: list[Any]) -> Any:
        return self._forward(method, parameters).get("result")

    def _forward(self, method: str, parameters: list[Any]) -> dict[str, Any]:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        request = urllib.request.Request(
            self.upstream, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            told: dict[str, Any] = json.load(answer)
        return {key: told[key] for key in ("result", "error") if key in told}
