"""Whether a run may start from a model's adapter, and what its recipe must be for that."""

from __future__ import annotations

from dataclasses import fields, replace

from django.urls import reverse

from modelfactory.errors import RunError
from modelfactory.models import Model, Run
from modelfactory.training.recipe import Recipe

# Settings of a recipe that decide the shape and scale of an adapter.
SHAPE = ("rank", "alpha", "targets", "use_rslora", "use_dora")
LABELS = {one.name: one.metadata["label"] for one in fields(Recipe)}


def recipe_from(parent: Model, recipe: Recipe) -> Recipe:
    """The recipe with the parent's shape, so that its adapter fits."""
    theirs = parent.run.parsed_recipe
    return replace(recipe, **{name: getattr(theirs, name) for name in SHAPE})


def refusals(run: Run) -> list[RunError]:
    """Why the run cannot start from its parents as they stand."""
    found = []
    for one in run.parents.select_related("model__run", "model__base_model"):
        found += why_not(one.model, run)
    return found


def why_not(parent: Model, run: Run) -> list[RunError]:
    """Of one parent: it is published, on the same weights, and of the same shape."""
    steps = {
        step: reverse(f"modelfactory:wizard-{step}", args=[run.pk]) for step in ("base", "settings")
    }
    found = []
    if parent.state != Model.State.PUBLISHED:
        found.append(
            RunError("PARENT", f"{parent.name} is not published any more; start from another.")
        )
    base = run.base_model
    if base is not None and base.pk != parent.base_model_id:
        found.append(
            RunError(
                "PARENT",
                f"{parent.name} is an adapter of {parent.base_model.name}, not of {base.name}. "
                "Train on its base model.",
                url=steps["base"],
            )
        )
    trained_on = _weights_of(parent)
    if base is not None and trained_on and base.weights_sha256 != trained_on:
        found.append(
            RunError("PARENT", f"The weights of {base.name} changed since {parent.name} was made.")
        )
    theirs, mine = parent.run.parsed_recipe, run.parsed_recipe
    other = [LABELS[name] for name in SHAPE if getattr(theirs, name) != getattr(mine, name)]
    if other and run.kind == Run.Kind.TRAIN:
        found.append(
            RunError(
                "PARENT",
                f"To start from {parent.name}, keep its settings: {', '.join(other)} "
                f"{'differs' if len(other) == 1 else 'differ'}.",
                url=steps["settings"] + "?advanced=1",
            )
        )
    return found


def _weights_of(parent: Model) -> str:
    """The base's weights that the parent's manifest names; "" where it names none."""
    payload = parent.manifest.get("manifest", parent.manifest)
    base = payload.get("base") if isinstance(payload, dict) else None
    return str(base.get("weights_sha256", "")) if isinstance(base, dict) else ""
