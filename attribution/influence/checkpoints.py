"""Influence averaged over several states of a run, its checkpoints.

At each state the records' gradients and the answer's are taken and multiplied by the curvature
there; the influences are added up, each state's with its weight. TracIn (Pruthi et al. 2020, arXiv
2002.08484) does so without a curvature and weights a state by its learning rate; here a state
weighs the learning rates of all steps since the state before it, so that states at unequal
distances count what they stand for. Weights add up to one.

A dot product of vectors that are put one behind the other is the sum of their dot products. So an
index over C checkpoints is an index of vectors C times as long, each part times the root of its
weight; what a record's sketch and a group's sum keep of them stays as wide as it is. A build costs
C times the gradients, an answer C gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from attribution.influence.config import InfluenceConfig
from attribution.influence.errors import AdapterMismatchError, BackendError, InfluenceError
from attribution.influence.index import file_sha256
from attribution.influence.model import AdaptedModel, Checkpoint


@dataclass(frozen=True, slots=True)
class State:
    """The adapter's file at one step of its run; ``rates`` are the learning rates of all steps
    since the state before it, added up."""

    path: Path
    rates: float


def averaged(model: AdaptedModel, states: Sequence[State], config: InfluenceConfig) -> AdaptedModel:
    """``model`` with the earlier states of its run. ``states`` are in the order of their steps and
    end with the published adapter itself; none are needed for one checkpoint.

    Raises InfluenceError where they are not as many as the configuration asks for,
    AdapterMismatchError where one is of another adapter or the last is not the published one,
    BackendError where the model is shared out over processes.
    """
    if not states and config.checkpoints == 1:
        return model
    if len(states) != config.checkpoints:
        raise InfluenceError(
            f"The index is to be built over {config.checkpoints} checkpoints, and the run has "
            f"kept {len(states)}."
        )
    if file_sha256(states[-1].path) != model.adapter_sha256:
        raise AdapterMismatchError("The last checkpoint is not the published adapter.")
    weights = weights_of([state.rates for state in states], config.checkpoint_weights)
    return _with(model, [state.path for state in states[:-1]], weights)


def as_indexed(
    model: AdaptedModel, header: Mapping[str, Any], earlier: Sequence[Path]
) -> AdaptedModel:
    """``model`` with the checkpoints that an index's header names; ``earlier`` are their files,
    in any order. Raises AdapterMismatchError where one is not among them."""
    stated = header.get("checkpoints", [])
    if not stated:
        return model
    by_hash = {file_sha256(path): path for path in earlier}
    names = [str(one["adapter_sha256"]) for one in stated]
    for name in names[:-1]:
        if name not in by_hash:
            raise AdapterMismatchError(
                f"The index was built over the checkpoint {name[:12]}, which is not here."
            )
    weights = [float(one["weight"]) for one in stated]
    return _with(model, [by_hash[name] for name in names[:-1]], weights)


def weights_of(rates: Sequence[float], how: str) -> list[float]:
    """Parts of one. Raises InfluenceError where no step had a learning rate."""
    if how == "even":
        return [1 / len(rates)] * len(rates)
    total = sum(rates)
    if not all(rate >= 0 for rate in rates) or not 0 < total < float("inf"):
        raise InfluenceError("The checkpoints' learning rates are no positive numbers.")
    return [rate / total for rate in rates]


def _with(model: AdaptedModel, earlier: Sequence[Path], weights: Sequence[float]) -> AdaptedModel:
    if model.crew.size > 1:
        raise BackendError("Processes that share out a model cannot put checkpoints in its place.")
    checkpoints = tuple(
        Checkpoint(file_sha256(path), weight, parameters_of(model, path))
        for path, weight in zip(earlier, weights, strict=False)
    )
    return replace(model, checkpoints=checkpoints, weight=weights[-1])


def parameters_of(model: AdaptedModel, path: Path) -> dict[str, Tensor]:
    """The adapter's parameters from a file as PEFT writes it, by the network's own names.

    Raises AdapterMismatchError where it has others, or others' shapes.
    """
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise AdapterMismatchError(f"The checkpoint {path.name} cannot be read: {error}") from error
    found = {}
    for name, parameter in adapter_parameters(model.network).items():
        tensor = stored.pop(_published(name), None)
        if tensor is None or tensor.shape != parameter.shape:
            raise AdapterMismatchError(f"The checkpoint {path.name} has no {name} of its shape.")
        found[name] = tensor.to(device=model.device, dtype=torch.float32)
    if stored:
        raise AdapterMismatchError(f"The checkpoint {path.name} has {min(stored)}, which is new.")
    return found


def adapter_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in network.named_parameters() if ".lora_" in name}


def _published(name: str) -> str:
    """``x.lora_A.default.weight`` stands in the file as ``x.lora_A.weight``."""
    short = name.replace(".default.", ".")
    vector = ".lora_magnitude_vector"
    return short.removesuffix(".weight") if f"{vector}." in short else short
