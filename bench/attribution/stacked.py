"""Several adapters trained at once on one frozen base model, each by itself.

A retraining of a small model spends much of its time on what is the same for all: starting
operations and multiplying small matrices. Here the batches of several runs stand one below the
other, the base model's matrices are multiplied once with all of them, and every run has adapter
matrices of its own (a batched product). The loss is the sum of the runs' losses, so no gradient
goes from one to another, and AdamW works number by number: each run is what `training.train` would
have made of its records and seed, up to the rounding of sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

from attribution.influence.examples import IndexedExample
from attribution.influence.gradients import Batch, make_batch
from bench.attribution import training
from bench.attribution.training import EPOCHS, Recipe

NOTHING = IndexedExample("", "", [0, 0], [0, 0])  # fills a batch that ends early


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **_: Any
) -> tuple[Tensor, None]:
    """Causal attention over rows without padding before a token, in fp32: the kernel's bf16
    backward is many times slower on a CPU."""
    groups = query.shape[1] // key.shape[1]
    keys, values = (part.float().repeat_interleave(groups, dim=1) for part in (key, value))
    found = functional.scaled_dot_product_attention(query.float(), keys, values, is_causal=True)
    return found.transpose(1, 2).to(query.dtype), None


AttentionInterface.register("bench_fp32", _attend)


class StackedLinear(nn.Module):
    """A frozen linear map with one adapter for each of ``runs`` equal parts of the batch."""

    weight: Tensor

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        first = layers[0]
        self.register_buffer("weight", first.base_layer.weight.detach(), persistent=False)
        self.scaling = first.scaling["default"]
        # (runs, columns, rank) and (runs, rank, rows)
        self.down = nn.Parameter(_stack([layer.lora_A["default"] for layer in layers]))
        self.up = nn.Parameter(_stack([layer.lora_B["default"] for layer in layers]))

    def forward(self, x: Tensor) -> Tensor:  # (runs * batch, seq, columns)
        apart = x.reshape(len(self.down), -1, x.shape[-1])
        adapted = torch.bmm(torch.bmm(apart, self.down.to(x.dtype)), self.up.to(x.dtype))
        base = functional.linear(x, self.weight)
        return base + self.scaling * adapted.view(base.shape)


class Stack:
    """The adapters of several runs with fresh weights, one seed for each."""

    def __init__(self, seeds: Sequence[int], recipe: Recipe, device: str = "cpu") -> None:
        self.recipe, self.device = recipe, torch.device(device)
        self.seeds = list(seeds)
        networks = [training.adapted(seed, recipe) for seed in seeds]
        self.causal = networks[0].get_base_model()
        found = [dict(network.get_base_model().named_modules()) for network in networks]
        names = [name for name, module in found[0].items() if hasattr(module, "lora_A")]
        for name in names:
            parent, _, last = name.rpartition(".")
            stacked = StackedLinear([modules[name] for modules in found])
            setattr(self.causal.get_submodule(parent), last, stacked)
        self.causal.config._attn_implementation = "bench_fp32"
        self.causal.requires_grad_(False).to(self.device)
        self.layers = [m for m in self.causal.modules() if isinstance(m, StackedLinear)]
        for layer in self.layers:
            layer.requires_grad_(True)

    def train(self, records: Sequence[Sequence[IndexedExample]], epochs: int = EPOCHS) -> None:
        """``records`` of each run. Raises ValueError where runs differ in their number of steps."""
        size, runs = self.recipe.batch, len(self.seeds)
        batches = {-(-len(one) // size) for one in records}
        if len(records) != runs or len(batches) != 1:
            raise ValueError("Runs are trained at once where they take the same number of steps.")
        steps = epochs * batches.pop()
        parameters = [p for layer in self.layers for p in layer.parameters()]
        optimizer = torch.optim.AdamW(
            parameters, lr=self.recipe.learning_rate, weight_decay=0.0, fused=True
        )
        self._cast(torch.bfloat16 if self.recipe.mixed else torch.float32)
        orders = [np.random.default_rng(seed) for seed in self.seeds]
        places: list[NDArray[np.int64]] = []
        for step in range(steps):
            begin = step % (steps // epochs) * size
            if begin == 0:
                places = [
                    draw.permutation(len(one)) for draw, one in zip(orders, records, strict=True)
                ]
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.learning_rate * (1 - step / steps)
            rows: list[IndexedExample] = []
            for one, order in zip(records, places, strict=True):
                mine = [one[p] for p in order[begin : begin + size]]
                rows += mine + [NOTHING] * (size - len(mine))
            optimizer.zero_grad(set_to_none=True)
            self._loss(make_batch(rows, self.device)).backward()
            optimizer.step()
        self._cast(torch.float32)

    def network(self, run: int) -> Any:
        """One of them as an ordinary PEFT model in fp32, in evaluation mode."""
        found = training.adapted(self.seeds[run], self.recipe)
        layers = [m for m in found.get_base_model().modules() if hasattr(m, "lora_A")]
        with torch.no_grad():
            for layer, mine in zip(layers, self.layers, strict=True):
                layer.lora_A["default"].weight.copy_(mine.down[run].T)
                layer.lora_B["default"].weight.copy_(mine.up[run].T)
        return found.eval()

    def losses(self, queries: Sequence[IndexedExample]) -> NDArray[np.float64]:
        """Summed negative log-likelihood of each query's target tokens, (runs, queries)."""
        found: list[NDArray[np.float64]] = []
        runs = len(self.seeds)
        with torch.inference_mode():
            for begin in range(0, len(queries), training.BATCH):
                one = make_batch(queries[begin : begin + training.BATCH], self.device)
                ids, present, targets = (
                    part.repeat(runs, 1) for part in (one.ids, one.present, one.targets)
                )
                batch = Batch(ids, present, targets)
                each, rows = self._each(batch)
                sums = torch.zeros(len(batch.ids), dtype=torch.float64, device=self.device)
                sums.index_add_(0, rows, each.double())
                found.append(sums.view(runs, -1).cpu().numpy())
        return np.concatenate(found, axis=1)

    def _cast(self, dtype: torch.dtype) -> None:
        """The base model's weights to ``dtype``; adapters and rotary frequencies stay fp32."""
        for layer in self.layers:
            layer.weight = layer.weight.to(dtype)
        for parameter in self.causal.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(dtype)

    def _loss(self, batch: Batch) -> Tensor:
        each, rows = self._each(batch)
        counts = batch.targets[:, 1:].sum(dim=1).view(len(self.seeds), -1).sum(dim=1)
        weights = (1 / counts).repeat_interleave(self.recipe.batch)
        return (each * weights[rows]).sum()

    def _each(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of every target token, and which row of the batch it stands in."""
        states = self.causal.model(input_ids=batch.ids, use_cache=False).last_hidden_state
        mask = batch.targets[:, 1:] > 0
        logits = functional.linear(states[:, :-1][mask], self.causal.lm_head.weight).float()
        each = functional.cross_entropy(logits, batch.ids[:, 1:][mask], reduction="none")
        return each, mask.nonzero()[:, 0]


def _stack(layers: Sequence[Any]) -> Tensor:
    return torch.stack([layer.weight.detach().T for layer in layers]).contiguous()
