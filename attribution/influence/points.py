"""Where a training stands between two steps, kept so that its steps can be taken once more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from modelfactory.training.train import Training

Tensors = list[Tensor]


@dataclass(frozen=True, slots=True)
class Point:
    """Where a training stands before a step."""

    step: int
    parameters: Tensors
    first: Tensors
    second: Tensors
    random: tuple[Tensor, Tensors]


def trainable(training: Training) -> Tensors:
    return [p for p in training.model.parameters() if p.requires_grad]


def take_point(training: Training) -> Point:
    parameters = trainable(training)
    states = [training.optimizer.state.get(p, {}) for p in parameters]
    first, second = (
        [
            state[name].clone() if state else torch.zeros_like(p)
            for state, p in zip(states, parameters, strict=True)
        ]
        for name in ("exp_avg", "exp_avg_sq")
    )
    kept = [p.detach().clone() for p in parameters]
    return Point(training.progress.step, kept, first, second, random_state())


def restore(training: Training, point: Point) -> None:
    parameters = trainable(training)
    optimizer: Any = training.optimizer
    with torch.no_grad():
        for parameter, kept in zip(parameters, point.parameters, strict=True):
            parameter.copy_(kept)
    optimizer.state.clear()
    if point.step:
        for p, first, second in zip(parameters, point.first, point.second, strict=True):
            optimizer.state[p] = {
                "step": torch.tensor(float(point.step)),
                "exp_avg": first.clone(),
                "exp_avg_sq": second.clone(),
            }
    training.progress.step = point.step
    set_random(point.random)


def random_state() -> tuple[Tensor, Tensors]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return torch.get_rng_state(), cuda


def set_random(states: tuple[Tensor, Tensors]) -> None:
    torch.set_rng_state(states[0])
    if states[1]:
        torch.cuda.set_rng_state_all(states[1])
