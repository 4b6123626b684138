"""Who runs a model forward and backward for its per-example gradients.

Everything before and after is the same: which records, with which labels, what is made of their
gradients. A backend loads an adapter as an `AdaptedModel` and may replace its passes.

- ``hooks`` (the default): our own hooks, a model that fits one device.
- ``bergson``: the library Bergson, with FSDP over processes and machines; see `bergson`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from attribution.influence import model as plain
from attribution.influence.model import AdaptedModel

Backend = Literal["hooks", "bergson"]


def load(
    backend: Backend, base_folder: Path | str, adapter_folder: Path | str, device: str
) -> AdaptedModel:
    """Load both folders with ``backend``. Raises UnsupportedAdapterError, BackendError where the
    backend is not installed, ValueError where there is none of that name."""
    if backend == "hooks":
        return plain.load(base_folder, adapter_folder, device)
    if backend == "bergson":
        # Here, since hardly anybody has it.
        from attribution.influence.backends import bergson

        return bergson.load(Path(base_folder), Path(adapter_folder), device)
    raise ValueError(f"There is no backend {backend!r}; choose of {', '.join(get_args(Backend))}.")
