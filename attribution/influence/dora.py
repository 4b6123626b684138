"""The derivatives that DoRA leaves out of its backward pass, for who differentiates training.

DoRA (Liu et al., arXiv 2402.09353) divides each row of a weight ``W + s B A`` by its norm and takes
that norm for a constant in the backward pass (its section 4.3). What training does with the
parameters p is then no gradient of a function, but it is a smooth function of them all the same:
``G(p, n(p))``, where G is the gradient with the norms n held. So

    d<a, G>/dp = the derivative with n held + (dn/dp)' d<a, G>/dn

and the loss itself, whose norms do move with the parameters, is differentiated likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(slots=True)
class Norms:
    """The norms of one or more passes, in the order in which layers asked for them: ``leaves`` are
    what the passes computed with, (outputs,) each; empty for an adapter that is not DoRA's."""

    leaves: list[Tensor] = field(default_factory=list)
    _sources: list[Callable[[], Tensor]] = field(default_factory=list)

    def through(self, towards: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
        """What a function of the norms, whose derivatives by ``leaves`` are ``towards``, changes by
        with each of ``parameters``."""
        if not self.leaves:
            return [torch.zeros_like(p) for p in parameters]
        along = torch.stack(
            [(source() * t).sum() for source, t in zip(self._sources, towards, strict=True)]
        ).sum()
        found: Any = torch.autograd.grad(
            along, parameters, allow_unused=True, materialize_grads=True
        )
        return list(found)


class _Constant:
    """What a layer of PEFT gets for a norm; it detaches it, and computes with the leaf."""

    def __init__(self, leaf: Tensor) -> None:
        self.leaf = leaf

    def detach(self) -> Tensor:
        return self.leaf


@contextmanager
def held_norms(network: nn.Module) -> Iterator[Norms]:
    """Within the block the norms that DoRA's layers compute with can be differentiated by."""
    norms = Norms()
    layers = [
        (tuned, name, layer)
        for tuned in network.modules()
        for name, layer in getattr(tuned, "lora_magnitude_vector", {}).items()
    ]
    try:
        for tuned, name, layer in layers:
            layer.get_weight_norm = _holding(norms, tuned, name, layer.get_weight_norm)
        yield norms
    finally:
        for _, _, layer in layers:
            vars(layer).pop("get_weight_norm", None)


def _holding(norms: Norms, tuned: Any, name: str, real: Any) -> Callable[..., _Constant]:
    def held(
        weight: Tensor, lora_weight: Tensor, scaling: float, adapter_name: str | None = None
    ) -> _Constant:
        leaf = real(weight=weight, lora_weight=lora_weight, scaling=scaling)
        leaf = leaf.detach().requires_grad_()

        def source() -> Tensor:
            product = tuned.lora_B[name].weight @ tuned.lora_A[name].weight
            found: Tensor = real(
                weight=weight, lora_weight=product.to(lora_weight.dtype), scaling=scaling
            )
            return found

        norms.leaves.append(leaf)
        norms._sources.append(source)
        return _Constant(leaf)

    return held
