"""How long, how much memory: computed before anything starts, without torch.

Time is arithmetic over tokens at a speed that was either measured on earlier runs of this base
model and device, or is a stated guess for the device. It is a range, never one number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from modelfactory.training.recipe import Recipe

# Sustained floating point operations a second in training small to middle-sized models:
# one CPU core with AVX-512, one data-centre GPU.
SPEED = {"cpu": 30e9, "cuda": 60e12}
# Loading, and answering the sample questions before and after.
START_SECONDS = {"cpu": 18.0, "cuda": 30.0}
UNCERTAINTY = 1.8  # the range is speed times and divided by this where nothing was measured
MEASURED_UNCERTAINTY = 1.3
PROCESS_BYTES = {"cpu": 450_000_000, "cuda": 900_000_000}
# An index reads every record once, forward and backward, and a sample of at most so many of them
# (a quarter, where that is less) three times more; see docs/scale.md.
FIT_FRACTION, FIT_MAX, FIT_PASSES = 0.25, 2048, 3


@dataclass(frozen=True)
class Shape:
    """The figures of a base model's config.json that decide what a run costs."""

    parameters: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, parameters: int) -> "Shape":
        def first(*names: str, default: int) -> int:
            return int(next((config[n] for n in names if config.get(n)), default))

        hidden = first("hidden_size", "n_embd", "d_model", default=768)
        heads = first("num_attention_heads", "n_head", "num_heads", default=12)
        return cls(
            parameters=parameters,
            layers=first("num_hidden_layers", "n_layer", "num_layers", default=12),
            hidden=hidden,
            intermediate=first("intermediate_size", "n_inner", "ffn_dim", default=4 * hidden),
            heads=heads,
            kv_heads=first("num_key_value_heads", default=heads),
            head_dim=first("head_dim", default=hidden // heads),
            vocabulary=first("vocab_size", default=50_000),
            context=first("max_position_embeddings", "n_positions", "n_ctx", default=1024),
        )


@dataclass(frozen=True)
class Estimate:
    records: int
    tokens: int  # read over all epochs, without padding
    steps: int
    trainable_parameters: int
    seconds_low: int
    seconds_high: int
    memory_bytes: int
    measured: bool  # whether the speed comes from earlier runs
    # Of the index that tells whose records shaped an answer, over all states.
    index_seconds_low: int = 0
    index_seconds_high: int = 0
    # Of the run over which influence is averaged, each with the weights of the adapter.
    states: int = 1

    @property
    def adapter_bytes(self) -> int:
        return 4 * self.trainable_parameters

    @property
    def kept_bytes(self) -> int:
        """Of all states that are stored for as long as the model is, the adapter among them."""
        return self.states * self.adapter_bytes


def estimate(
    *,
    shape: Shape,
    lengths: Sequence[int],
    recipe: Recipe,
    device: str = "cpu",
    tokens_per_second: float | None = None,
) -> Estimate:
    """`lengths` are tokens a record, already cut; `tokens_per_second` is what runs measured."""
    trained = max(1, round(len(lengths) * (1 - recipe.validation_fraction)))
    share = trained / max(1, len(lengths))
    tokens = round(sum(lengths) * share * recipe.epochs)
    passes = ceil(trained / recipe.batch_size) * recipe.epochs
    trainable = trainable_parameters(shape, recipe)
    speed = tokens_per_second or SPEED[device] / (6 * shape.parameters)
    spread = MEASURED_UNCERTAINTY if tokens_per_second else UNCERTAINTY
    held_out = sum(lengths) * (1 - share)
    # A forward pass alone costs a third; the held-out records are read about six times.
    seconds = (tokens + 6 * held_out / 3) / speed
    fitted = min(FIT_FRACTION, FIT_MAX / max(1, trained))
    # Each state has its own gradients of every record, and of every answer.
    index = recipe.checkpoints * sum(lengths) * share * (1 + FIT_PASSES * fitted) / speed
    return Estimate(
        records=len(lengths),
        tokens=tokens,
        steps=ceil(passes / recipe.gradient_accumulation),
        trainable_parameters=trainable,
        seconds_low=ceil(START_SECONDS[device] + seconds / spread),
        seconds_high=ceil(START_SECONDS[device] + seconds * spread),
        memory_bytes=memory(shape, recipe, max(lengths, default=1), trainable, device),
        measured=tokens_per_second is not None,
        index_seconds_low=ceil(index / spread),
        index_seconds_high=ceil(index * spread),
        states=recipe.checkpoints,
    )


def trainable_parameters(shape: Shape, recipe: Recipe) -> int:
    """Parameters of the adapter for a Llama-like layer: rank x (in + out) of each matrix."""
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    attention = [(shape.hidden, query), (shape.hidden, key), (shape.hidden, key)]
    attention.append((query, shape.hidden))
    mlp = [(shape.hidden, shape.intermediate)] * 2 + [(shape.intermediate, shape.hidden)]
    chosen = {"all-linear": attention + mlp, "attention": attention, "mlp": mlp}[recipe.targets]
    pairs = sum(recipe.rank * (fan_in + fan_out) for fan_in, fan_out in chosen)
    magnitudes = sum(fan_out for _, fan_out in chosen) if recipe.use_dora else 0
    return shape.layers * (pairs + magnitudes)


def memory(shape: Shape, recipe: Recipe, longest: int, trainable: int, device: str) -> int:
    """Bytes at the peak: process, weights, adapter with optimiser, activations of one batch."""
    weight_bytes = 4 if device == "cpu" else 2
    tokens = recipe.batch_size * min(longest, recipe.cutoff)
    layer = (14 * shape.hidden + 4 * shape.intermediate) * shape.layers
    activations = tokens * (layer + 3 * shape.vocabulary) * 4
    return PROCESS_BYTES[device] + weight_bytes * shape.parameters + 16 * trainable + activations
