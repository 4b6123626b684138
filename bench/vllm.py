"""A real vLLM behind this house's client: whether it keeps the contract, and how fast it answers.

Needs a GPU and `pip install vllm`; without it the script says so and ends with 2. The base is the
starter or `--base FOLDER` (weights and tokenizer), the adapters are random, of rank 8 on all
projections. The same requests are asked of this house's engine on the same device afterwards.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import report
from config.embedded.paths import REPOSITORY, free_port

KEY = "bench-key-of-this-run"
PROMPT = list(range(40, 72))
START_SECONDS = 600.0


def main() -> int:
    parser = report.parser(__doc__)
    parser.add_argument("--base", type=Path, default=REPOSITORY / "modelfactory" / "starter")
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    options = parser.parse_args()
    program = shutil.which("vllm")
    if program is None:
        print(
            "vLLM is not installed here: pip install vllm, on a machine with a GPU.",
            file=sys.stderr,
        )
        return 2
    _django()
    result = report.Report("vllm", options)
    with TemporaryDirectory(prefix="vllm-") as folder:
        adapters = _adapters(options.base, Path(folder), options.streams + 1)
        with _server(program, options.base, options.streams, Path(folder)) as client:
            _contract(result, client, adapters[-1])
            names = [path.name for path in adapters[: options.streams]]
            for path in adapters[: options.streams]:
                client.load(path.name, str(path))
            base = _rate(client, ["base"] * options.streams, options.tokens)
            tuned = _rate(client, names, options.tokens)
            first = {name: _ids(client, name, 16) for name in names[:4]}
        ours, same = _ours(options, adapters, first)
    result.add("vLLM, base alone", base, "tokens/s")
    result.add("vLLM, every stream another adapter", tuned, "tokens/s")
    result.add("vLLM with adapters / base", tuned / base, "x")
    result.add("this engine, every stream another adapter", ours, "tokens/s")
    result.add("vLLM / this engine, with adapters", tuned / ours, "x")
    result.add("greedy tokens that both give, of the first 16", same, "part")
    return result.finish()


def _contract(result: report.Report, client: Any, adapter: Path) -> None:
    """Each documented behaviour that `serving.external` builds upon, as 1 or 0."""
    from serving.external.client import AdapterGone, Call

    name = adapter.name
    result.add("lists its base", float("base" in client.models()), "", at_least=1)
    client.load(name, str(adapter))
    client.load(name, str(adapter))
    result.add("lists an adapter that was loaded", float(name in client.models()), "", at_least=1)
    deltas = list(client.answer("/v1/completions", _body(name, 8), Call()))
    told = [token for delta in deltas for token in delta.ids]
    usage = next(delta.usage for delta in reversed(deltas) if delta.usage)
    result.add("tells the ids of its tokens", float(len(told) == 8), "", at_least=1)
    counts = (usage["prompt_tokens"], usage["completion_tokens"]) == (len(PROMPT), len(told))
    result.add("its usage is what we count", float(counts), "", at_least=1)
    call, read = Call(), 0
    for _ in client.answer("/v1/completions", _body(name, 512), call):
        read += 1
        call.cancel()
    result.add("ends where we hang up", float(0 < read < 512), "", at_least=1)
    client.unload(name)
    try:
        list(client.answer("/v1/completions", _body(name, 1), Call()))
        gone = False
    except AdapterGone:
        gone = True
    result.add("says that an adapter is gone", float(gone), "", at_least=1)


def _rate(client: Any, models: list[str], tokens: int) -> float:
    """Tokens a second of all streams together, after one round that warms up."""
    with ThreadPoolExecutor(len(models)) as threads:
        list(threads.map(lambda name: _ids(client, name, 4), models))
        began = time.perf_counter()
        found = list(threads.map(lambda name: _ids(client, name, tokens), models))
    return sum(map(len, found)) / (time.perf_counter() - began)


def _ids(client: Any, model: str, tokens: int) -> list[int]:
    from serving.external.client import Call

    deltas = client.answer("/v1/completions", _body(model, tokens), Call())
    return [token for delta in deltas for token in delta.ids]


def _body(model: str, tokens: int) -> dict[str, Any]:
    return {
        "model": model, "prompt": PROMPT, "max_tokens": tokens, "temperature": 0, "stream": True,
        "stream_options": {"include_usage": True}, "return_token_ids": True, "ignore_eos": True,
    }  # fmt: skip


def _ours(options: Any, adapters: list[Path], first: dict[str, list[int]]) -> tuple[float, float]:
    """(tokens a second, part of the first tokens that are vLLM's) of this house's engine."""
    import torch

    from serving.engine.engine import Engine
    from serving.engine.types import Request

    device, dtype = ("cuda", "bfloat16") if torch.cuda.is_available() else ("cpu", "float32")
    engine = Engine(options.base, device=device, dtype=dtype, max_active=options.streams)
    try:
        paths = adapters[: options.streams]
        for path in paths:
            engine.ensure_adapter(path.name, path)

        def ask(name: str, tokens: int) -> list[int]:
            request = Request(
                f"{name}{tokens}", tuple(PROMPT), adapter=name, max_tokens=tokens, temperature=0,
                ignore_end=True,
            )  # fmt: skip
            with engine.generate(request) as stream:
                return [token.id for token in stream if token.id is not None]

        with ThreadPoolExecutor(len(paths)) as threads:
            list(threads.map(lambda path: ask(path.name, 4), paths))
            began = time.perf_counter()
            found = list(threads.map(lambda path: ask(path.name, options.tokens), paths))
            rate = sum(map(len, found)) / (time.perf_counter() - began)
        pairs = [
            one == other
            for name, theirs in first.items()
            for one, other in zip(ask(name, 16), theirs, strict=False)
        ]
        return rate, sum(pairs) / max(1, len(pairs))
    finally:
        engine.close()


def _adapters(base: Path, folder: Path, count: int) -> list[Path]:
    """Folders that are named by their content hash, as the product names them."""
    import json

    from transformers import AutoModelForCausalLM

    from bench.serving.shape import make_adapter
    from serving.engine.adapters import adapter_name, file_sha256

    model = AutoModelForCausalLM.from_pretrained(base)
    made = []
    for seed in range(count):
        path = make_adapter(model, folder / f"made{seed}", seed)
        config = json.loads((path / "adapter_config.json").read_text())
        name = adapter_name(file_sha256(path / "adapter_model.safetensors"), config)
        made.append(path.rename(folder / name))
    return made


@contextmanager
def _server(program: str, base: Path, adapters: int, folder: Path) -> Iterator[Any]:
    from serving.external.client import ReplicaClient, ReplicaError
    from serving.models import Replica

    port = free_port(9300)
    command = [
        program, "serve", str(base), "--served-model-name", "base", "--host", "127.0.0.1",
        "--port", str(port), "--api-key", KEY, "--enable-lora", "--max-lora-rank", "8",
        "--max-loras", str(adapters), "--max-cpu-loras", str(2 * adapters),
        "--max-num-seqs", str(adapters),
    ]  # fmt: skip
    environment = {**os.environ, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
    client = ReplicaClient(Replica(base_url=f"http://127.0.0.1:{port}"), KEY)
    with (folder / "vllm.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            until = time.monotonic() + START_SECONDS
            while True:
                try:
                    client.check_health()
                    break
                except ReplicaError as error:
                    if server.poll() is not None or time.monotonic() > until:
                        told = (folder / "vllm.log").read_text(errors="replace")[-3_000:]
                        raise RuntimeError(f"vLLM did not start: {told}") from error
                    time.sleep(1)
            yield client
        finally:
            server.terminate()
            server.wait(60)


def _django() -> None:
    """Settings alone: nothing here asks a database."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ.setdefault("SECRET_KEY", "a key for a benchmark")
    os.environ["EXTERNAL_ENGINE_NETWORKS"] = "127.0.0.0/8"
    django.setup()


if __name__ == "__main__":
    raise SystemExit(main())
