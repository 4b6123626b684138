"""Several adapters as one, for a request: linear, TIES (Yadav and others, 2023) and DARE (Yu and
others, 2024), or side by side.

The arithmetic is that of PEFT's `add_weighted_adapter`: but for `cat` the matrices of the parents
are combined one by one, each weighed with the square root of weight times scaling, so parents have
the same rank; `cat` keeps the exact weighted sum of what the parents add, of any ranks. The result
is an adapter like another, named by its parents and settings, so that it is made once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from serving.engine.adapters import Adapter, LoraWeights
from serving.engine.merges import Merge, MergeKind
from serving.engine.types import MAX_RANK, BadRequest


def merged(merge: Merge, parents: Sequence[Adapter], order: Sequence[str]) -> Adapter:
    """`parents` in the order of `merge.parents`; `order` is that of the base's linear layers.

    A layer that only some parents have is merged of those. Raises BadRequest where the parents do
    not fit each other.
    """
    if any(layer.rescale is not None for one in parents for layer in one.layers.values()):
        raise BadRequest("An adapter with magnitudes (DoRA) cannot be merged.")
    draw = torch.Generator().manual_seed(merge.seed)
    weights = [weight for _, weight in merge.parents]
    layers: dict[str, LoraWeights] = {}
    for module in order:
        there = [
            (one.layers[module], weight)
            for one, weight in zip(parents, weights, strict=True)
            if module in one.layers
        ]
        if there:
            layers[module] = _layer(module, merge, there, draw)
    return Adapter(
        name=merge.name,
        rank=max(layer.down.shape[0] for layer in layers.values()),
        layers=layers,
        bytes=sum(layer.down.nbytes + layer.up.nbytes for layer in layers.values()),
    )


def _layer(
    module: str,
    merge: Merge,
    parents: Sequence[tuple[LoraWeights, float]],
    draw: torch.Generator,
) -> LoraWeights:
    scaled = [weight * layer.scaling for layer, weight in parents]
    downs = [layer.down.float() for layer, _ in parents]
    ups = [layer.up.float() for layer, _ in parents]
    if merge.kind is MergeKind.CAT:
        if sum(len(down) for down in downs) > MAX_RANK:
            raise BadRequest(f"The ranks of the adapters add up to more than {MAX_RANK}.")
        down = torch.cat([layer.down.float() * weight * layer.scaling for layer, weight in parents])
        up = torch.cat(ups, dim=1)
    else:
        if len({len(down) for down in downs}) > 1:
            raise BadRequest(
                f"The adapters have different ranks at {module}; only cat merges those."
            )
        roots = [math.sqrt(abs(factor)) for factor in scaled]
        # The sign goes to one of the two matrices, so that it stays in their product.
        signed = [math.copysign(root, factor) for root, factor in zip(roots, scaled, strict=True)]
        down = _combined(downs, signed, merge, draw)
        up = _combined(ups, roots, merge, draw)
    return LoraWeights(
        down.to(torch.bfloat16).contiguous(), up.to(torch.bfloat16).contiguous(), 1.0, None
    )


def _combined(
    tensors: Sequence[torch.Tensor], weights: Sequence[float], merge: Merge, draw: torch.Generator
) -> torch.Tensor:
    stacked = torch.stack([_pruned(one, merge, draw) for one in tensors])
    weighed = stacked * torch.tensor(weights).view(-1, *[1] * (stacked.dim() - 1))
    if not merge.kind.elects_signs:
        return weighed.sum(dim=0)
    # The sign of the sum wins; the mean is over those that have it.
    elected = torch.where(stacked.sum(dim=0) >= 0, 1, -1)
    agrees = stacked.sign() == elected
    return (weighed * agrees).sum(dim=0) / agrees.sum(dim=0).clamp(min=1.0)


def _pruned(tensor: torch.Tensor, merge: Merge, draw: torch.Generator) -> torch.Tensor:
    if not merge.kind.prunes or merge.density >= 1.0:
        return tensor
    if merge.kind.is_random:
        # What is left is enlarged, so that the sum is the same on average.
        kept = torch.bernoulli(torch.full_like(tensor, merge.density), generator=draw)
        return tensor * kept / merge.density
    largest = tensor.abs().flatten().topk(int(merge.density * tensor.numel())).indices
    kept = torch.zeros(tensor.numel())
    kept[largest] = 1.0
    return tensor * kept.view_as(tensor)
