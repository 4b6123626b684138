"""The engine in a process of its own, without the product around it, for `bench.serving.http`.

Reads one line of JSON for each round, {"streams", "tokens", "prompt", "seconds"}, and answers with
a line: tokens of `seconds` that begin when all streams have, and the times to the first token of
each request. Its streams ask again as soon as they are answered, as the load's client does.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

from bench.serving.product import ENGINE_CPU, OTHER_CPU, bind
from serving.engine.adapters import adapter_name, file_sha256, read_config
from serving.engine.engine import Engine
from serving.engine.types import Request


class Direct:
    def __init__(self, folder: Path, streams: int) -> None:
        bind(OTHER_CPU)
        self.engine = Engine(folder / "base", max_active=streams, cpus=frozenset({int(ENGINE_CPU)}))
        self.names = []
        for number in range(streams):
            source = folder / f"adapter{number}"
            sha256 = file_sha256(source / "adapter_model.safetensors")
            name = adapter_name(sha256, read_config(source / "adapter_config.json"))
            self.engine.ensure_adapter(name, source)
            self.names.append(name)
        self.asked = 0

    def round(self, streams: int, tokens: int, prompt: int, seconds: float) -> dict[str, Any]:
        over = threading.Event()
        begun = threading.Semaphore(0)
        firsts: list[float] = []

        def ask(place: int) -> None:
            draw = random.Random(f"{self.asked} {place}")
            while not over.is_set():
                ids = tuple(draw.randrange(8192) for _ in range(prompt))
                began = time.perf_counter()
                key = f"{place} {began}"
                asked = Request(key, ids, self.names[place], tokens, 0.0, owner="client")
                for number, _ in enumerate(self.engine.generate(asked)):
                    if not number:
                        firsts.append(time.perf_counter() - began)
                        begun.release()

        self.asked += 1
        threads = [threading.Thread(target=ask, args=(place,)) for place in range(streams)]
        for one in threads:
            one.start()
        for _ in range(streams):
            begun.acquire()
        before, began = self.engine.residency().answer_tokens, time.perf_counter()
        time.sleep(seconds)
        told = self.engine.residency().answer_tokens - before
        took = time.perf_counter() - began
        over.set()
        for one in threads:
            one.join()
        return {"tokens": told, "seconds": took, "firsts": firsts}


def main() -> None:
    direct = Direct(Path(sys.argv[1]), int(sys.argv[2]))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(direct.round(**json.loads(line))) + "\n")
        sys.stdout.flush()
    direct.engine.close()


if __name__ == "__main__":
    main()
