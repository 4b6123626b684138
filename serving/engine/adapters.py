"""Reading a LoRA adapter in PEFT's folder format and refusing everything that is not one.

Only `adapter_config.json` and `adapter_model.safetensors` are read: a format that can run code
(pickle) is never opened. LoRA, rsLoRA and DoRA on linear layers are served; each other option of
PEFT changes the computation and is refused by name rather than ignored.

The two matrices are rounded to bfloat16 once, here, whatever computes with them later: half the
bytes to read for each token. PEFT with the same rounded weights gives the same answers.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from serving.engine.names import adapter_name as adapter_name
from serving.engine.types import MAX_RANK, AdapterRejected

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_LIMIT = 1 << 20  # bytes
DTYPES = ("F32", "F16", "BF16")
KEY = re.compile(
    r"base_model\.model\.(?P<module>[\w.]+)\."
    r"(?:lora_(?P<matrix>A|B)\.weight|(?P<magnitude>lora_magnitude_vector)(?:\.weight)?)"
)
# Options of PEFT that change what the adapter computes, with the value that switches each off.
SWITCHED_OFF: Mapping[str, tuple[Any, ...]] = {
    "fan_in_fan_out": (False, None),
    "bias": ("none", None),
    "lora_bias": (False, None),
    "modules_to_save": (None, []),
    "layer_replication": (None, []),
    "alora_invocation_tokens": (None, []),
    "use_qalora": (False, None),
    "use_bdlora": (None, False),
    "trainable_token_indices": (None, [], {}),
    "target_parameters": (None, []),
    "arrow_config": (None,),
    "kasa_config": (None,),
    "velora_config": (None,),
    "monteclora_config": (None,),
}


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer of the base that an adapter may target; `weight()` is (outputs, inputs)."""

    inputs: int
    outputs: int
    weight: Callable[[], torch.Tensor]
    bias: torch.Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class LoraWeights:
    """One adapted linear layer: output + scaling up(down(x)), or DoRA's rescaled sum.

    down (rank, inputs) and up (outputs, rank) in bfloat16; `rescale` (outputs,) in float32 is
    DoRA's magnitude over the norm of the merged weight, None for LoRA.
    """

    down: torch.Tensor
    up: torch.Tensor
    scaling: float
    rescale: torch.Tensor | None


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Adapter:
    """A validated adapter."""

    name: str
    rank: int
    layers: Mapping[str, LoraWeights]
    bytes: int


def read_adapter(
    name: str,
    folder: Path,
    linears: Mapping[str, Linear],
    *,
    base_sha256: str | None = None,
) -> Adapter:
    """Validate the adapter in `folder` against the base's linear layers and load it.

    `name` is the adapter's content hash (`adapter_name`), which is checked. `linears` are the
    base's linear layers by module path.

    Raises:
        AdapterRejected: with the reason.
    """
    weights_file = folder / WEIGHTS_FILE
    _check_files(folder, weights_file)
    config = read_config(folder / CONFIG_FILE)
    found = adapter_name(file_sha256(weights_file), config)
    if found != name:
        raise AdapterRejected(f"The files have the hash {found[:12]}…, expected {name[:12]}….")
    trained_on = config.get("base_weights_sha256")
    if base_sha256 and trained_on and trained_on != base_sha256:
        raise AdapterRejected("The adapter was trained on other base weights.")
    tensors = _read_tensors(weights_file)
    grouped = _grouped(tensors)
    scale_of = _scaling(config)
    layers = {
        module: _layer(module, parts, linears, scale_of, bool(config.get("use_dora")))
        for module, parts in sorted(grouped.items())
    }
    return Adapter(
        name=name,
        rank=max(layer.down.shape[0] for layer in layers.values()),
        layers=layers,
        bytes=sum(layer.down.nbytes + layer.up.nbytes for layer in layers.values()),
    )


def _check_files(folder: Path, weights_file: Path) -> None:
    if not (folder / CONFIG_FILE).is_file():
        raise AdapterRejected(f"The adapter has no {CONFIG_FILE}.")
    if not weights_file.is_file():
        raise AdapterRejected(f"The adapter has no {WEIGHTS_FILE}; only safetensors are loaded.")


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_config(path: Path) -> dict[str, Any]:
    """The adapter's configuration, checked; raises AdapterRejected."""
    if path.stat().st_size > CONFIG_LIMIT:
        raise AdapterRejected(f"{CONFIG_FILE} is larger than {CONFIG_LIMIT} bytes.")
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise AdapterRejected(f"{CONFIG_FILE} is not JSON.") from error
    if not isinstance(config, dict):
        raise AdapterRejected(f"{CONFIG_FILE} is not a JSON object.")
    if config.get("peft_type") != "LORA":
        raise AdapterRejected(f"Only LoRA adapters are served, this is {config.get('peft_type')}.")
    for option, off in SWITCHED_OFF.items():
        if option in config and config[option] not in off:
            raise AdapterRejected(f"The option {option} of the adapter is not served.")
    _whole(config.get("r"), "r")
    return config


def _whole(value: object, option: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_RANK:
        raise AdapterRejected(f"{option} is {value!r}; a whole number from 1 to {MAX_RANK} is due.")
    return value


def _scaling(config: Mapping[str, Any]) -> _Scaling:
    ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    if not isinstance(ranks, dict) or not isinstance(alphas, dict):
        raise AdapterRejected("rank_pattern and alpha_pattern must be objects.")
    if any(not re.fullmatch(r"[\w.]+", key) for key in (*ranks, *alphas)):
        raise AdapterRejected("rank_pattern and alpha_pattern are served for plain names only.")
    return _Scaling(
        config["r"], config.get("lora_alpha"), bool(config.get("use_rslora")), ranks, alphas
    )


@dataclass(frozen=True, slots=True)
class _Scaling:
    """alpha / rank (rsLoRA: alpha / sqrt(rank)), with PEFT's overrides per module."""

    rank: int
    alpha: Any
    rank_stabilised: bool
    ranks: Mapping[str, Any]
    alphas: Mapping[str, Any]

    def of(self, module: str, rank: int) -> float:
        declared = self._override(self.ranks, module, self.rank)
        if _whole(declared, "rank") != rank:
            raise AdapterRejected(f"{module} has rank {rank}, its configuration says {declared}.")
        alpha = self._override(self.alphas, module, self.alpha)
        if (
            isinstance(alpha, bool)
            or not isinstance(alpha, int | float)
            or not math.isfinite(alpha)
        ):
            raise AdapterRejected(f"lora_alpha is {alpha!r}; a finite number is due.")
        return float(alpha / math.sqrt(rank) if self.rank_stabilised else alpha / rank)

    @staticmethod
    def _override(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
        for pattern, value in patterns.items():
            if module == pattern or module.endswith(f".{pattern}"):
                return value
        return default


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - a safe_open handle is no mapping
                if file.get_slice(key).get_dtype() not in DTYPES:
                    raise AdapterRejected(f"{key} is neither float32, float16 nor bfloat16.")
                tensors[key] = file.get_tensor(key)
    except (SafetensorError, OSError, ValueError) as error:
        raise AdapterRejected(f"{WEIGHTS_FILE} cannot be read: {error}") from error
    for key, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise AdapterRejected(f"{key} holds numbers that are not finite.")
    return tensors


def _grouped(tensors: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    grouped: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = KEY.fullmatch(key)
        if match is None:
            raise AdapterRejected(f"{key[:200]} is not a tensor of a LoRA adapter.")
        part = match["matrix"] or "magnitude"
        grouped.setdefault(match["module"], {})[part] = tensor
    if not grouped:
        raise AdapterRejected(f"{WEIGHTS_FILE} holds no tensors.")
    return grouped


def _layer(
    module: str,
    parts: Mapping[str, torch.Tensor],
    linears: Mapping[str, Linear],
    scaling: _Scaling,
    dora: bool,
) -> LoraWeights:
    linear = linears.get(module)
    if linear is None:
        raise AdapterRejected(f"The base has no linear layer {module}.")
    expected = {"A", "B", "magnitude"} if dora else {"A", "B"}
    if set(parts) != expected:
        raise AdapterRejected(f"{module} has {sorted(parts)}, expected {sorted(expected)}.")
    down, up = parts["A"], parts["B"]
    if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
        raise AdapterRejected(f"The matrices of {module} do not fit each other.")
    if (up.shape[0], down.shape[1]) != (linear.outputs, linear.inputs):
        raise AdapterRejected(
            f"{module} is {linear.inputs} to {linear.outputs} in the base, "
            f"{down.shape[1]} to {up.shape[0]} in the adapter."
        )
    down, up = down.to(torch.bfloat16).contiguous(), up.to(torch.bfloat16).contiguous()
    scale = scaling.of(module, down.shape[0])
    rescale = None
    if dora:
        rescale = _dora_rescale(module, parts["magnitude"], linear.weight(), down, up, scale)
    return LoraWeights(down, up, scale, rescale)


def _dora_rescale(
    module: str,
    magnitude: torch.Tensor,
    weight: torch.Tensor,
    down: torch.Tensor,
    up: torch.Tensor,
    scaling: float,
) -> torch.Tensor:
    """magnitude / norm of each row of the merged weight (Liu and others, 2024, equation 5)."""
    if magnitude.shape != (weight.shape[0],):
        raise AdapterRejected(f"The magnitudes of {module} do not fit the base.")
    merged = weight.to(device="cpu", dtype=torch.float32) + scaling * (up.float() @ down.float())
    rescale: torch.Tensor = magnitude.float() / torch.linalg.norm(merged, dim=1)
    if not bool(torch.isfinite(rescale).all()):
        raise AdapterRejected(f"The merged weight of {module} has a row of zeros.")
    return rescale
