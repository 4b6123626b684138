"""EK-FAC: the true Fisher information of each LoRA matrix in a Kronecker eigenbasis.

For a matrix W (rows x columns) the Fisher information is close to ``S (x) A`` with A the second
moment of its inputs and S that of its output gradients under labels that the model samples
itself. Their eigenvectors Q_S, Q_A give a basis in which ``G' = Q_S^T G Q_A`` is nearly
uncorrelated; its second moments Lambda, measured per example, replace the Kronecker eigenvalues
(George et al. 2018, arXiv 1806.03884; influence by it: Grosse et al. 2023, arXiv 2308.03296).

Whitening divides by ``sqrt(Lambda + damping)``, so that the dot product of two whitened gradients
is ``g_q (F + damping)^-1 g_i``. The damping of a block is ``config.damping`` times the block's
mean eigenvalue, at least ``config.damping_floor`` times the mean of all blocks.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attribution.influence.config import InfluenceConfig
from attribution.influence.errors import IndexFileError, InfluenceError
from attribution.influence.gradients import (
    Tokens,
    backward,
    batches,
    derived_seed,
    make_batch,
    per_example,
    share,
)
from attribution.influence.model import AdaptedModel, Block

Beat = Callable[[], None]
NAMES = ("rows", "columns", "inverse_roots")


@dataclass(frozen=True, slots=True)
class Factors:
    """Per block, in the model's order: Q_S (rows, rows), Q_A (columns, columns) and the whitening
    factors ``1 / sqrt(Lambda + damping)`` (rows, columns), all fp32 on the model's device.

    ``earlier`` are those of the model's checkpoints, in their order; none where they share these.
    """

    rows: tuple[Tensor, ...]
    columns: tuple[Tensor, ...]
    inverse_roots: tuple[Tensor, ...]
    earlier: tuple[Factors, ...] = ()

    def save(self, path: Path) -> None:
        arrays: dict[str, Any] = {}
        for place, one in enumerate((self, *self.earlier)):
            first = place * len(self.rows)
            tensors_of = zip(one.rows, one.columns, one.inverse_roots, strict=True)
            for number, tensors in enumerate(tensors_of, first):
                for name, tensor in zip(NAMES, tensors, strict=True):
                    arrays[f"{number:05d}.{name}"] = tensor.cpu().numpy()
        arrays |= {"earlier": np.array(len(self.earlier))} if self.earlier else {}
        np.savez(path, **arrays)

    @classmethod
    def load(cls, path: Path, device: torch.device) -> Factors:
        """Raises IndexFileError where the file is missing or damaged."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                more = int(arrays["earlier"]) if "earlier" in arrays.files else 0
                count = len(arrays.files) // 3 // (1 + more)
                read = partial(_tensors, arrays, count, device)
                first, *others = (
                    cls(read("rows", at), read("columns", at), read("inverse_roots", at))
                    for at in range(1 + more)
                )
                return replace(first, earlier=tuple(others))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise IndexFileError(path, f"it cannot be read ({error}).") from error


def _tensors(
    arrays: Mapping[str, Any], count: int, device: torch.device, name: str, place: int
) -> tuple[Tensor, ...]:
    numbers = range(place * count, (place + 1) * count)
    return tuple(torch.from_numpy(arrays[f"{number:05d}.{name}"]).to(device) for number in numbers)


def fit(
    model: AdaptedModel, examples: Sequence[Tokens], config: InfluenceConfig, beat: Beat
) -> Factors:
    """Fit the factors on a sample of records. ``beat`` is called after each batch.

    Raises InfluenceError where the curvature is not finite.
    """
    last, *earlier = model.parts
    if config.checkpoint_factors == "last":
        earlier = []
    found = [_fit_at(part, examples, config, beat) for part in (last, *earlier)]
    return replace(found[0], earlier=tuple(found[1:]))


def _fit_at(
    model: AdaptedModel, examples: Sequence[Tokens], config: InfluenceConfig, beat: Beat
) -> Factors:
    few = examples[: config.covariance_max]
    rows, columns = _eigenbases(model, few, config, beat)
    moments = _eigenvalues(model, examples, rows, columns, config, beat)
    overall = float(torch.stack([moment.mean() for moment in moments]).mean())
    if not np.isfinite(overall) or overall <= 0:
        raise InfluenceError("The curvature of the adapter is zero or not a finite number.")
    roots = []
    for moment in moments:
        damping = max(config.damping * float(moment.mean()), config.damping_floor * overall)
        roots.append((moment.double() + damping).rsqrt().float())
    return Factors(rows, columns, tuple(roots))


def whiten(factors: Factors, number: int, gradients: Tensor) -> Tensor:
    """(batch, rows, columns) in weights -> the same in the whitened eigenbasis."""
    rotated = factors.rows[number].T @ gradients @ factors.columns[number]
    return rotated * factors.inverse_roots[number]


def whitened_gradients(model: AdaptedModel, factors: Factors, examples: Sequence[Tokens]) -> Tensor:
    """Whitened gradients of the true loss, (batch, whole dimension) fp32 on the model's device: of
    a model with checkpoints one behind the other, each times the root of its weight."""
    if not model.checkpoints:
        return _whitened_at(model, factors, examples)
    every = (factors, *factors.earlier) if factors.earlier else [factors] * len(model.parts)
    return torch.cat(
        [
            _whitened_at(part, own, examples) * part.weight**0.5
            for part, own in zip(model.parts, every, strict=True)
        ],
        dim=1,
    )


def _whitened_at(model: AdaptedModel, factors: Factors, examples: Sequence[Tokens]) -> Tensor:
    batch = share(make_batch(examples, model.device), model.crew)
    out = torch.zeros(len(batch.ids), model.dimension, device=model.device)

    def sink(number: int, block: Block, activations: Tensor, output_gradients: Tensor) -> None:
        gradients = per_example(activations, output_gradients)
        out[:, block.span] = whiten(factors, number, gradients).flatten(1)

    backward(model, batch, sink, labels="true", seed=0)
    return model.crew.gather(out)[: len(examples)]


def _eigenbases(
    model: AdaptedModel, examples: Sequence[Tokens], config: InfluenceConfig, beat: Beat
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    inputs = [torch.zeros(b.columns, b.columns, device=model.device) for b in model.blocks]
    outputs = [torch.zeros(b.rows, b.rows, device=model.device) for b in model.blocks]
    present = torch.zeros(0)

    def sink(number: int, block: Block, activations: Tensor, output_gradients: Tensor) -> None:
        x = activations[present]  # (tokens, columns)
        y = output_gradients[present]
        inputs[number].addmm_(x.T, x)
        outputs[number].addmm_(y.T, y)

    lengths = [len(example.input_ids) for example in examples]
    for batch in batches(lengths, range(len(examples)), config.batch_tokens):
        made = share(make_batch([examples[place] for place in batch], model.device), model.crew)
        present = made.present > 0
        seed = derived_seed(config.seed, "covariance", batch[0])
        backward(model, made, sink, labels="sampled", seed=seed)
        beat()
    model.crew.add([*inputs, *outputs])
    return _eigenvectors(model, outputs), _eigenvectors(model, inputs)


def _eigenvectors(model: AdaptedModel, moments: Sequence[Tensor]) -> tuple[Tensor, ...]:
    found = []
    for block, moment in zip(model.blocks, moments, strict=True):
        if not torch.isfinite(moment).all():
            raise InfluenceError(f"The curvature of {block.name} is not a finite number.")
        _, vectors = torch.linalg.eigh(moment.double().cpu())
        found.append(vectors.float().contiguous().to(model.device))
    return tuple(found)


def _eigenvalues(
    model: AdaptedModel,
    examples: Sequence[Tokens],
    rows: tuple[Tensor, ...],
    columns: tuple[Tensor, ...],
    config: InfluenceConfig,
    beat: Beat,
) -> list[Tensor]:
    """Mean squares of the sampled gradients in the eigenbasis, (rows, columns) a block."""
    moments = [torch.zeros(b.rows, b.columns, device=model.device) for b in model.blocks]

    def sink(number: int, block: Block, activations: Tensor, output_gradients: Tensor) -> None:
        gradients = per_example(activations, output_gradients)
        rotated = rows[number].T @ gradients @ columns[number]
        moments[number].add_(rotated.square().sum(dim=0))

    lengths = [len(example.input_ids) for example in examples]
    for batch in batches(lengths, range(len(examples)), config.batch_tokens):
        made = share(make_batch([examples[place] for place in batch], model.device), model.crew)
        seed = derived_seed(config.seed, "eigenvalues", batch[0])
        backward(model, made, sink, labels="sampled", seed=seed)
        beat()
    model.crew.add(moments)
    return [moment / len(examples) for moment in moments]
