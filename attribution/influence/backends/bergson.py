"""Gradients by Bergson (PyPI ``bergson`` 2.5.1, MIT), for models beyond one GPU.

Bergson loads base and adapter, shards them over the processes of torch.distributed by FSDP where
there are several, hooks the adapter's matrices and runs the passes; its hooks give inputs and
output gradients of each block to the same sinks as ours do. So curvature, sums and sketches are
made by the same code, and differ from ours by the rounding of fp32 alone.

    torchrun --nproc-per-node 8 -m bench.bergson --base BASE --adapter ADAPTER --device cuda

Labels that the model samples for the Fisher information are drawn here (one more forward over the
fit sample), since Bergson draws its own by no seed of ours.
Limits: plain LoRA; right padding without an attention mask, so causal models alone.
"""

from __future__ import annotations

import importlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attribution.influence.crew import Crew
from attribution.influence.errors import BackendError
from attribution.influence.gradients import Batch, Labels, Sink, sample
from attribution.influence.index import file_sha256
from attribution.influence.model import (
    ADAPTER_FILE,
    AdaptedModel,
    base_sha256,
    find_blocks,
    refuse_other_parameters,
)

VERSION = "2.5.1"
# What version 2.5.1 imports beside torch, transformers and peft. It also asks for torchvision and
# torchaudio, which it does not import, and whose wheels break a processor's torch.
NEEDS = (
    "datasets pyarrow pandas dill multiprocess xxhash fsspec accelerate jaxtyping wadler-lindig "
    "ml_dtypes natsort scipy petname simple-parsing docstring-parser torchopt optree"
)


def load(base_folder: Path, adapter_folder: Path, device: str) -> AdaptedModel:
    """Load by Bergson, sharded where this process is one of several.

    Raises BackendError where Bergson is not installed, UnsupportedAdapterError.
    """
    library = _import("bergson")
    worker_utils = _import("bergson.utils.worker_utils")
    config = _import("bergson.config.config")
    crew = Crew.join(device)
    with tempfile.TemporaryDirectory(prefix="bergson-") as folder:
        settings = library.IndexConfig(
            run_path=folder,
            model=str(_beside_its_base(adapter_folder, base_folder, Path(folder))),
            precision="fp32",
            fsdp=crew.size > 1,
            model_kwargs="attn_implementation=eager",
            loss_reduction="sum",
            projection_dim=0,
            distributed=config.DistributedConfig(nnode=1, nproc_per_node=crew.size),
        )
        network, targets = worker_utils.setup_model_and_peft(settings)
    refuse_other_parameters(network)
    network.eval()
    if crew.size == 1:
        network.to(device)
    blocks = find_blocks(network)
    last = blocks[-1]
    return AdaptedModel(
        network=network,
        blocks=blocks,
        dimension=last.offset + last.size,
        context_length=int(getattr(network.config, "max_position_embeddings", 0) or 2**20),
        device=torch.device(device),
        base_sha256=base_sha256(base_folder),
        adapter_sha256=file_sha256(adapter_folder / ADAPTER_FILE),
        passes=_Passes(network, targets, settings),
        crew=crew,
    )


class _Passes:
    """What stands in the place of our own hooks."""

    def __init__(self, network: Any, targets: set[str], settings: Any) -> None:
        collector = _import("bergson.collector.collector")
        self.network, self.targets = network, targets
        self.collector_class = _sink_collector(collector.HookCollectorBase)
        self.forward_backward = collector.fwd_bwd_factory(settings)

    def __call__(
        self, model: AdaptedModel, batch: Batch, sink: Sink, labels: Labels, seed: int
    ) -> None:
        wanted = batch.targets > 0
        wanted[:, 0] = False  # nothing comes before it
        chosen = batch.ids.clone()
        if labels == "sampled":
            mask = wanted[:, 1:]
            with torch.no_grad():
                logits = self.network(batch.ids).logits[:, :-1][mask].float()
            chosen[:, 1:][mask] = sample(logits, seed, batch)
        # Bergson takes targets from the labels, and -100 for what is none.
        chosen[~wanted] = -100
        numbers = {block.name: (number, block) for number, block in enumerate(model.blocks)}
        collector = self.collector_class(
            model=self.network.base_model, target_modules=self.targets, sink=sink, blocks=numbers
        )
        with torch.enable_grad(), collector.with_batch(batch.present > 0):
            self.forward_backward(self.network, batch.ids, chosen, {})


def _sink_collector(base: Any) -> Any:
    """Bergson's collector of hooks, with our sink at its end. Made here, since its base is only
    known where Bergson is installed."""

    class SinkCollector(base):  # type: ignore[misc]
        def __init__(self, *, sink: Sink, blocks: dict[str, Any], **options: Any) -> None:
            self.sink, self.blocks = sink, blocks
            super().__init__(**options)

        def setup(self) -> None:
            pass

        def forward_hook(self, module: Any, a: Tensor) -> None:
            module._inputs = a

        def backward_hook(self, module: Any, g: Tensor) -> None:
            number, block = self.blocks[f"base_model.{module._name}"]
            self.sink(number, block, module._inputs, g)

        def process_batch(self, indices: list[int], **kwargs: Any) -> None:
            pass

        def teardown(self) -> None:
            pass

    return SinkCollector


def _beside_its_base(adapter: Path, base: Path, folder: Path) -> Path:
    """A copy of the adapter whose configuration names this base: Bergson finds the base there."""
    copy = folder / "adapter"
    copy.mkdir()
    shutil.copy(adapter / ADAPTER_FILE, copy)
    stated = json.loads((adapter / "adapter_config.json").read_text())
    stated["base_model_name_or_path"] = str(base.resolve())
    (copy / "adapter_config.json").write_text(json.dumps(stated))
    return copy


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BackendError(
            f"The backend bergson cannot be loaded ({error}). Install it with `pip install "
            f"--no-deps bergson=={VERSION} {NEEDS}`, or build with the backend hooks."
        ) from error
