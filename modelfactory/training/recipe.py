"""What to train, in one dataclass. Forms, the API, the job file and the docs derive from it."""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import Any

SCHEDULERS = ("cosine", "linear", "constant")
# Learning rates of LoRA by parameters of the base model, and below the last of them.
RATES = ((10_000_000, 5e-3), (100_000_000, 2e-3), (1_000_000_000, 5e-4))
SMALLEST_RATE = 2e-4
TARGETS = ("all-linear", "attention", "mlp")


class RecipeError(ValueError):
    """A value that cannot be trained with; `field` says which."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def setting(
    default: Any,
    label: str,
    help: str,
    *,
    simple: bool = False,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A field with what a form needs: label, help, bounds, and whether the simple form shows it."""
    return field(
        default=default,
        metadata={
            "label": label,
            "help": help,
            "simple": simple,
            "low": low,
            "high": high,
            "choices": choices,
        },
    )


@dataclass(frozen=True)
class Recipe:
    """Low-rank adaptation of a causal language model on records."""

    epochs: int = setting(
        2,
        "Epochs",
        "How often every record is read. More fits closer, and in the end by heart.",
        simple=True,
        low=1,
        high=20,
    )
    learning_rate: float = setting(
        5e-3,
        "Learning rate",
        "How far each step goes. Too high and the loss jumps or becomes infinite.",
        simple=True,
        low=1e-6,
        high=5e-2,
    )
    batch_size: int = setting(
        8,
        "Batch size",
        "Records in one pass. Larger is steadier and needs more memory.",
        simple=True,
        low=1,
        high=256,
    )
    cutoff: int = setting(
        256,
        "Cutoff length",
        "Tokens of a record that are read; what is longer is cut at the end.",
        simple=True,
        low=16,
        high=8192,
    )
    rank: int = setting(
        8, "LoRA rank", "Width of the adapter. More can learn more and costs more.", low=1, high=256
    )
    alpha: int = setting(
        16, "LoRA alpha", "Scale of the adapter; it acts as alpha / rank.", low=1, high=1024
    )
    dropout: float = setting(
        0.0, "LoRA dropout", "Share of adapter inputs that are dropped.", low=0.0, high=0.9
    )
    targets: str = setting(
        "all-linear",
        "LoRA targets",
        "Which layers get an adapter: all linear ones, those of attention, or of the MLP.",
        choices=TARGETS,
    )
    use_rslora: bool = setting(
        False, "Rank-stabilised LoRA", "Scale by alpha / √rank, for high ranks."
    )
    use_dora: bool = setting(
        False, "DoRA", "Learn direction and magnitude apart: slower, sometimes better."
    )
    scheduler: str = setting(
        "cosine", "Scheduler", "How the learning rate falls.", choices=SCHEDULERS
    )
    warmup: float = setting(
        0.05, "Warm-up", "Share of the steps in which the learning rate rises.", low=0.0, high=0.5
    )
    weight_decay: float = setting(0.0, "Weight decay", "Pulls the adapter to zero.", low=0, high=1)
    gradient_accumulation: int = setting(
        1, "Gradient accumulation", "Passes for one step, where memory is short.", low=1, high=64
    )
    max_gradient_norm: float = setting(
        1.0, "Gradient clipping", "Longest step that one batch may ask for.", low=0.01, high=100
    )
    validation_fraction: float = setting(
        0.1,
        "Held-out share",
        "Share of the records that is never trained on and measures the result.",
        low=0.02,
        high=0.5,
    )
    packing: bool = setting(
        False, "Packing", "Join short records up to the cutoff, each seeing only itself."
    )
    checkpoints: int = setting(
        1,
        "Checkpoints for attribution",
        "States of the run over which influence is averaged, the finished adapter the last. Each "
        "more stores the adapter once again and takes the time of an index, and of attributing an "
        "answer, once again. In our benchmark records are told 1 to 2 % better and contributors' "
        "shares no better.",
        low=1,
        high=8,
    )
    seed: int = setting(
        0, "Seed", "Equal seed, data and device give an equal adapter.", low=0, high=2**31 - 1
    )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Recipe":
        """Read a recipe, defaults for what is not given. Raises RecipeError."""
        known = {f.name: f for f in fields(cls)}
        for name in data:
            if name not in known:
                raise RecipeError(name, f"A recipe has no setting {name!r}.")
        recipe = cls(**{name: _cast(known[name], value) for name, value in data.items()})
        recipe.check()
        return recipe

    def suited_to(self, *, parameters: int, context: int) -> "Recipe":
        """Fit what was left at its default to a base model: larger ones take smaller steps."""
        changes: dict[str, Any] = {}
        if self.learning_rate == Recipe.learning_rate:
            changes["learning_rate"] = next(
                (rate for size, rate in RATES if parameters <= size), SMALLEST_RATE
            )
        if self.cutoff == Recipe.cutoff:
            changes["cutoff"] = max(16, min(self.cutoff, context))
        return replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def check(self) -> None:
        """Raise RecipeError for a value out of its bounds."""
        for f in fields(self):
            value, meta = getattr(self, f.name), f.metadata
            if meta["choices"] and value not in meta["choices"]:
                raise RecipeError(
                    f.name, f"{meta['label']}: choose one of {', '.join(meta['choices'])}."
                )
            if meta["low"] is not None and not meta["low"] <= value <= meta["high"]:
                raise RecipeError(
                    f.name,
                    f"{meta['label']} must be between {meta['low']:g} and {meta['high']:g}.",
                )


def _cast(f: Any, value: Any) -> Any:
    """Take an int for a float, refuse everything else that has another type."""
    assert f.default is not MISSING
    wanted = type(f.default)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted or value != value:
        raise RecipeError(f.name, f"{f.metadata['label']} must be a {wanted.__name__}.")
    return value
