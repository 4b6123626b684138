"""The wizard's memory: a run that is still being put together."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import transaction

from accounts import audit
from accounts.models import User
from datanets.models import Version
from ledger.errors import SelfRoyalty
from modelfactory.errors import RunError
from modelfactory.models import BaseModel, Model, Run, RunParent, RunVersion
from modelfactory.parents import recipe_from
from modelfactory.training.recipe import Recipe

Choice = Version | tuple[Version, int]


def create_draft(*, name: str, goal: str = "", acting_user: User, at: datetime) -> Run:
    with transaction.atomic():
        run = Run.objects.create(
            builder=acting_user,
            name=name.strip()[:80] or "Untitled run",
            goal=goal[:2_000],
            recipe=Recipe().to_json(),
            created_at=at,
        )
        audit.record(actor=acting_user, verb="run.drafted", target=run, at=at)
    return run


def create_run(
    *,
    name: str,
    base_model: BaseModel,
    versions: Sequence[Choice],
    recipe: Recipe | Mapping[str, Any] | None = None,
    goal: str = "",
    parent: Model | None = None,
    acting_user: User,
    at: datetime,
) -> Run:
    """A whole draft at once; `start_run` starts it. A version may come with its weight.

    Raises RecipeError, RunError (BASE, VERSION, PARENT), SelfRoyalty.
    """
    with transaction.atomic():
        run = create_draft(name=name, goal=goal, acting_user=acting_user, at=at)
        set_data(run=run, versions=versions, acting_user=acting_user)
        if recipe is not None:
            set_recipe(run=run, recipe=recipe, acting_user=acting_user)
        set_base(run=run, base_model=base_model, acting_user=acting_user)
        if parent is not None:
            set_parent(run=run, parent=parent, acting_user=acting_user)
    return run


def set_goal(*, run: Run, name: str, goal: str, acting_user: User) -> None:
    require_draft(run, acting_user)
    run.name, run.goal = name.strip()[:80], goal[:2_000]
    run.save(update_fields=["name", "goal"])


def set_data(*, run: Run, versions: Sequence[Choice], acting_user: User) -> None:
    """Raises RunError (VERSION) for one that this person may not train on."""
    require_draft(run, acting_user)
    weights = dict(v if isinstance(v, tuple) else (v, 1) for v in versions)
    allowed = Version.objects.usable_by(acting_user).filter(pk__in=[v.pk for v in weights])
    if allowed.count() != len(weights):
        raise RunError("VERSION", "You may not train on one of these versions.")
    with transaction.atomic():
        run.run_versions.all().delete()
        RunVersion.objects.bulk_create(
            RunVersion(run=run, version=version, weight=weight)
            for version, weight in weights.items()
        )
        run.estimate = {}
        run.save(update_fields=["estimate"])


def set_base(*, run: Run, base_model: BaseModel, acting_user: User) -> None:
    """Settings that were left at their default are fitted to the base.

    Raises RunError (BASE) where it does not load.
    """
    require_draft(run, acting_user)
    if not base_model.is_ready:
        raise RunError("BASE", f"{base_model.name} is not ready. {base_model.failure_reason}")
    recipe = run.parsed_recipe.suited_to(
        parameters=base_model.parameters, context=base_model.context_length
    )
    run.base_model, run.recipe, run.estimate = base_model, recipe.to_json(), {}
    run.save(update_fields=["base_model", "recipe", "estimate"])


def set_parent(*, run: Run, parent: Model | None, acting_user: User) -> None:
    """Start from a published model's adapter, or with None from scratch.

    The run takes the parent's base model and the shape of its adapter. Raises RunError (PARENT),
    SelfRoyalty where the model is the run's own.
    """
    if parent is not None and parent.run_id == run.pk:
        raise SelfRoyalty("A self-referring royalty: a model cannot be made from itself.")
    require_draft(run, acting_user)
    if parent is not None and parent.state != Model.State.PUBLISHED:
        raise RunError("PARENT", "Only a published model can be trained further.")
    with transaction.atomic():
        run.parents.all().delete()
        if parent is not None:
            RunParent.objects.create(run=run, model=parent)
            run.base_model = parent.base_model
            run.recipe = recipe_from(parent, run.parsed_recipe).to_json()
            run.estimate = {}
            run.save(update_fields=["base_model", "recipe", "estimate"])


def set_recipe(*, run: Run, recipe: Recipe | Mapping[str, Any], acting_user: User) -> None:
    """Raises RecipeError."""
    require_draft(run, acting_user)
    parsed = recipe if isinstance(recipe, Recipe) else Recipe.from_json(recipe)
    parsed.check()
    run.recipe, run.estimate = parsed.to_json(), {}
    run.save(update_fields=["recipe", "estimate"])


def delete_draft(*, run: Run, acting_user: User, at: datetime) -> None:
    require_draft(run, acting_user)
    with transaction.atomic():
        audit.record(actor=acting_user, verb="run.draft_deleted", target=run, at=at)
        run.delete()


def require_draft(run: Run, acting_user: User) -> None:
    """Raises PermissionDenied for anyone but the builder, RunError (STATE) once it is started."""
    if run.builder_id != acting_user.pk:
        raise PermissionDenied("Only the builder of this run can do this.")
    if run.state != Run.State.DRAFT:
        raise RunError("STATE", "This run was started, so its settings stand.")
