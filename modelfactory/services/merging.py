"""Merging published models of one base into a new one, which owes royalties by their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from django.db import transaction

from accounts import audit
from accounts.models import User
from ledger.splits import BASIS_POINTS
from modelfactory.errors import RunError
from modelfactory.licences import check as check_licences
from modelfactory.lineage import lineage_versions
from modelfactory.models import Model, Run, RunParent
from modelfactory.services.runs import enqueue, require_quota
from modelfactory.training.recipe import Recipe

MOST_PARENTS = 8
Weighted = Sequence[tuple[Model, int]]


def start_merge(
    *, name: str, parents: Weighted, goal: str = "", acting_user: User, at: datetime
) -> Run:
    """Queue the linear merge of two models or more, weights in basis points that make 10,000.

    Its rank is the sum of theirs, so that it adds exactly what they add by weight. Raises
    RunError (PARENT, LICENCE, BASE, QUOTA).
    """
    _check(parents)
    first = parents[0][0]
    recipe = merged_recipe(parents)
    with transaction.atomic():
        require_quota(acting_user)
        run = Run.objects.create(
            builder=acting_user,
            kind=Run.Kind.MERGE,
            state=Run.State.QUEUED,
            name=name.strip()[:80] or "Untitled merge",
            goal=goal[:2_000],
            base_model=first.base_model,
            recipe=recipe.to_json(),
            queued_at=at,
            created_at=at,
        )
        RunParent.objects.bulk_create(
            RunParent(run=run, model=model, weight=weight) for model, weight in parents
        )
        licence = check_licences(lineage_versions(run), first.base_model.licence)
        if licence.refusals:
            raise RunError("LICENCE", licence.refusals[0])
        enqueue(run.pk, at)
        audit.record(
            actor=acting_user,
            verb="run.started",
            target=run,
            data={"parents": {str(model.pk): weight for model, weight in parents}},
            at=at,
        )
    return run


def merged_recipe(parents: Weighted) -> Recipe:
    """The shape of the merged adapter; nothing is trained by it."""
    recipes = [model.run.parsed_recipe for model, _ in parents]
    rank = sum(recipe.rank for recipe in recipes)
    return replace(
        Recipe(),
        rank=rank,
        alpha=rank,
        targets=recipes[0].targets,
        cutoff=max(recipe.cutoff for recipe in recipes),
    )


def _check(parents: Weighted) -> None:
    """Raises RunError for models that do not go together, or weights that make no whole."""
    models = [model for model, _ in parents]
    if not 2 <= len(models) <= MOST_PARENTS:
        raise RunError("PARENT", f"Merge 2 to {MOST_PARENTS} models.")
    if len({model.pk for model in models}) != len(models):
        raise RunError("PARENT", "A model stands twice in this merge. Give it one weight.")
    if any(weight < 1 for _, weight in parents) or sum(w for _, w in parents) != BASIS_POINTS:
        raise RunError("PARENT", "Each model has a part above 0 %, and together they make 100 %.")
    for model in models:
        if model.state != Model.State.PUBLISHED:
            raise RunError("PARENT", f"{model.name} is not published, so it cannot be merged.")
    bases = {model.base_model_id for model in models}
    if len(bases) != 1:
        names = " and ".join(sorted({model.base_model.name for model in models}))
        raise RunError("PARENT", f"These are adapters of {names}. Merge adapters of one base.")
    if not models[0].base_model.is_ready:
        raise RunError("BASE", f"{models[0].base_model.name} does not load any more.")
    recipes = [model.run.parsed_recipe for model in models]
    if any(recipe.use_dora for recipe in recipes):
        raise RunError("PARENT", "A DoRA adapter cannot be merged: its lengths do not add up.")
    if len({recipe.targets for recipe in recipes}) != 1:
        raise RunError("PARENT", "These adapters are on different layers, so they do not add up.")
    highest = Recipe.__dataclass_fields__["rank"].metadata["high"]
    rank = sum(recipe.rank for recipe in recipes)
    if rank > highest:
        raise RunError(
            "PARENT", f"The merged adapter would have rank {rank}; {highest} is the most."
        )
