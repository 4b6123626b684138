"""vLLM's own engine on the folder that `bench.serving.gpu` made, in a process of its own.

The last line that it prints is JSON: tokens a second of whole batches, base alone and every row
another adapter, after one that loads and captures.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from bench.serving.peers import prompts_of
from bench.serving.shape import CONTEXT, RANK

TOKENS = 64


def main(folder: Path, dtype: str, batches: list[int]) -> None:
    vllm: Any = importlib.import_module("vllm")
    lora: Any = importlib.import_module("vllm.lora.request")
    engine = vllm.LLM(
        model=str(folder / "base"),
        skip_tokenizer_init=True,
        dtype=dtype,
        enable_lora=True,
        max_loras=max(batches),
        max_lora_rank=RANK,
        max_num_seqs=max(batches),
        max_model_len=CONTEXT,
        enable_prefix_caching=False,
    )
    wish = vllm.SamplingParams(temperature=0, max_tokens=TOKENS, ignore_eos=True, detokenize=False)
    found = {}
    for batch in batches:
        prompts = [{"prompt_token_ids": ids} for ids in prompts_of(batch, 32).tolist()]
        rows = [lora.LoRARequest(f"{n}", n + 1, str(folder / f"adapter{n}")) for n in range(batch)]
        for name, adapters in (("base", None), ("adapters", rows)):
            engine.generate(prompts, wish, lora_request=adapters)
            began = time.perf_counter()
            engine.generate(prompts, wish, lora_request=adapters)
            found[f"batch {batch}: vLLM, {name}"] = batch * TOKENS / (time.perf_counter() - began)
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))
