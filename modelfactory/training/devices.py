"""Where a worker computes. Imports torch, so never in the web process."""

import os
from functools import cache

import torch


@cache
def choose_device() -> tuple[str, str]:
    """Return (device, dtype), for example ("cuda", "bfloat16") or ("cpu", "float32").

    OPENLEDGER_DEVICE=cpu keeps off a GPU that others need.
    """
    if os.environ.get("OPENLEDGER_DEVICE", "") != "cpu" and torch.cuda.is_available():
        return "cuda", "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return "cpu", "float32"
