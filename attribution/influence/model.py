"""Loads a base model with a LoRA adapter, in fp32, and finds the adapter's matrices.

Gradients are taken in fp32 whatever the adapter was trained in: in bf16 their signs, and with
them the one-bit sketches, would depend on the batch.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from attribution.influence.crew import ALONE, Crew
from attribution.influence.errors import UnsupportedAdapterError
from attribution.influence.index import file_sha256

ADAPTER_FILE = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Block:
    """One LoRA matrix: a bias-free linear map of shape (rows, columns) inside the network.

    ``offset`` is where its ``rows * columns`` coordinates begin in the adapter's flat vector.
    """

    name: str
    module: nn.Linear
    rows: int
    columns: int
    offset: int

    @property
    def size(self) -> int:
        return self.rows * self.columns

    @property
    def span(self) -> slice:
        return slice(self.offset, self.offset + self.size)


class Passes(Protocol):
    """Runs a batch forward and backward and hands each block's tensors to the sink, as
    `gradients.backward` does."""

    def __call__(
        self, model: AdaptedModel, batch: Any, sink: Any, labels: Any, seed: int
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The adapter at an earlier step of its run, with its part of an averaged influence;
    ``parameters`` are all of the adapter's, by the network's names."""

    adapter_sha256: str
    weight: float
    parameters: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class AdaptedModel:
    """A frozen network whose embeddings carry gradients, so that every block sees its own.

    ``lock`` is held through a forward and backward: hooks are on the network, so two threads at
    once would see each other's gradients. ``passes`` run them in the place of our own hooks
    (`backends`); ``crew`` are the processes that do so together.

    ``checkpoints`` are earlier states whose influences are averaged with its own, which has the
    part ``weight`` (``attribution.influence.checkpoints``). All share the one network: gradients
    ``at`` one of them are taken while its parameters stand there.
    """

    network: nn.Module
    blocks: tuple[Block, ...]
    dimension: int
    context_length: int
    device: torch.device
    base_sha256: str
    adapter_sha256: str
    checkpoints: tuple[Checkpoint, ...] = ()
    weight: float = 1.0
    at: Checkpoint | None = None
    passes: Passes | None = field(default=None, compare=False)
    crew: Crew = ALONE
    lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    @property
    def parts(self) -> list[AdaptedModel]:
        """Itself, then the model as it was at each checkpoint; each alone."""
        return [replace(self, checkpoints=())] + [
            replace(self, checkpoints=(), weight=checkpoint.weight, at=checkpoint)
            for checkpoint in self.checkpoints
        ]

    @property
    def whole_dimension(self) -> int:
        """Coordinates of a whitened gradient: the adapter's at itself and at each checkpoint."""
        return self.dimension * (1 + len(self.checkpoints))

    @property
    def stated_checkpoints(self) -> list[dict[str, str]]:
        """As an index's header names them, in the order of their steps; none where there is one
        state alone."""
        if not self.checkpoints:
            return []
        every = [(one.adapter_sha256, one.weight) for one in self.checkpoints]
        every.append((self.adapter_sha256, self.weight))
        return [{"adapter_sha256": name, "weight": repr(weight)} for name, weight in every]

    @contextmanager
    def standing(self) -> Iterator[None]:
        """The network with the parameters of ``at``, if it is one; by whoever holds the lock."""
        if self.at is None:
            yield
            return
        places = dict(self.network.named_parameters())
        before = {name: places[name].data for name in self.at.parameters}
        try:
            for name, tensor in self.at.parameters.items():
                places[name].data = tensor
            yield
        finally:
            for name, tensor in before.items():
                places[name].data = tensor


# transformers makes its models under switches that hold for the whole process.
_LOADING = threading.Lock()


def load(base_folder: Path | str, adapter_folder: Path | str, device: str) -> AdaptedModel:
    """Load both folders onto ``device``. Raises UnsupportedAdapterError where it is no LoRA."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base_folder, adapter_folder = Path(base_folder), Path(adapter_folder)
    with _LOADING:
        # Eager attention: the fused kernels' backward adds up in no fixed order on a GPU.
        base = AutoModelForCausalLM.from_pretrained(
            base_folder, dtype=torch.float32, attn_implementation="eager"
        )
        network = PeftModel.from_pretrained(base, str(adapter_folder))
    return adapt(
        network,
        device=device,
        base_sha256=base_sha256(base_folder),
        adapter_sha256=file_sha256(adapter_folder / ADAPTER_FILE),
    )


def adapt(
    network: nn.Module, *, device: str, base_sha256: str = "", adapter_sha256: str = ""
) -> AdaptedModel:
    """Freeze a PEFT model and find its blocks. Raises UnsupportedAdapterError."""
    refuse_other_parameters(network)
    network.requires_grad_(False)
    network.eval()
    network.to(device=device, dtype=torch.float32)
    blocks = find_blocks(network)
    config: Any = network.config
    last = blocks[-1]
    return AdaptedModel(
        network=network,
        blocks=blocks,
        dimension=last.offset + last.size,
        context_length=int(getattr(config, "max_position_embeddings", 0) or 2**20),
        device=torch.device(device),
        base_sha256=base_sha256,
        adapter_sha256=adapter_sha256,
    )


def base_sha256(folder: Path) -> str:
    """Hex SHA-256 over the names and hashes of the weights and the configuration."""
    digest = hashlib.sha256()
    for path in sorted([folder / "config.json", *folder.glob("*.safetensors")]):
        digest.update(f"{path.name} {file_sha256(path)}\n".encode())
    return digest.hexdigest()


def find_blocks(network: nn.Module) -> tuple[Block, ...]:
    blocks: list[Block] = []
    offset = 0
    for name, module in network.named_modules():
        if not _is_lora_matrix(name):
            continue
        if not isinstance(module, nn.Linear) or module.bias is not None:
            raise UnsupportedAdapterError(f"{name} is no bias-free linear map.")
        block = Block(name, module, module.out_features, module.in_features, offset)
        blocks.append(block)
        offset += block.size
    if not blocks:
        raise UnsupportedAdapterError("The adapter has no LoRA matrices.")
    return tuple(blocks)


def _is_lora_matrix(name: str) -> bool:
    parts = name.split(".")
    return len(parts) >= 2 and parts[-2] in ("lora_A", "lora_B")


# DoRA's magnitudes are left as they are: its two matrices carry the attribution.
_KNOWN = ("lora_A", "lora_B", "lora_magnitude_vector")


def refuse_other_parameters(network: nn.Module) -> None:
    for name, _ in network.named_parameters():
        parts = name.split(".")
        if "modules_to_save" in parts:
            raise UnsupportedAdapterError(f"{name} was trained in full, only LoRA is attributed.")
        if any(part.startswith("lora_") and part not in _KNOWN for part in parts):
            raise UnsupportedAdapterError(f"{name}: this kind of LoRA is not attributed.")
