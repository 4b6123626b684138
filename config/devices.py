"""Chooses device and dtype for a worker process. Imports torch, so never in the web process."""

import os
from functools import cache


@cache
def choose_device() -> tuple[str, str]:
    """Return (device, dtype), for example ("cuda", "bfloat16") or ("cpu", "float32").

    OPENLEDGER_DEVICE forces the device where a machine is shared.
    """
    import torch

    wanted = os.environ.get("OPENLEDGER_DEVICE", "")
    if wanted != "cpu" and torch.cuda.is_available():
        return "cuda", "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return "cpu", "float32"
