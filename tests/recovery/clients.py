"""People who keep asking over HTTP while things die around them."""

import random
import threading
from typing import Any

import httpx

QUESTIONS = ("What is json.dumps for?", "What does pathlib.Path do?", "Why is the sky blue?")


class Clients:
    """Threads that ask until they are told to stop; what they were answered is counted."""

    def __init__(self, address: str, service: dict[str, Any], count: int = 2) -> None:
        self.address = address
        self.service = service
        self.answered = 0
        self.refused = 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(count)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        chance = random.Random(number)
        headers = {"Authorization": f"Bearer {self.service['key']}"}
        with httpx.Client(base_url=self.address, headers=headers, timeout=90) as client:
            while not self._stop.is_set():
                self._count(self._one(client, chance))

    def _one(self, client: httpx.Client, chance: random.Random) -> bool:
        body = {
            "model": self.service[chance.choice(["model", "model", "model", "base"])],
            "messages": [{"role": "user", "content": chance.choice(QUESTIONS)}],
            "max_tokens": chance.randint(16, 96),
            "stream": chance.random() < 0.5,
        }
        try:
            reply = client.post("/v1/chat/completions", json=body)
        except httpx.HTTPError:
            return False
        return reply.status_code == 200 and '"error"' not in reply.text

    def _count(self, answered: bool) -> None:
        with self._lock:
            self.answered += answered
            self.refused += not answered
        if not answered:
            self._stop.wait(0.2)  # as a client backs off
