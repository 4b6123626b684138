"""What the views of this room share: one access helper per resource and level."""

from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, QueryDict
from django.shortcuts import get_object_or_404
from django.utils import timezone

from accounts.models import User
from modelfactory.models import Model, Run


def now() -> Any:
    return timezone.now()


def posted(request: HttpRequest) -> QueryDict | None:
    """What a form is bound to; an empty POST is one too."""
    return request.POST if request.method == "POST" else None


def person(request: HttpRequest) -> User:
    """The signed-in user; views that call it are behind `login_required`."""
    assert isinstance(request.user, User)
    return request.user


def visible_run(request: HttpRequest, run_id: UUID) -> Run:
    """A run that this person may read, drafts only their builder's; else 404."""
    runs = Run.objects.visible_to(request.user).select_related("base_model", "builder")
    return get_object_or_404(runs.exclude(state=Run.State.DRAFT), pk=run_id)


def own_run(request: HttpRequest, run_id: UUID) -> Run:
    """A started run that this person may steer; 404 where not even readable, else 403."""
    run = visible_run(request, run_id)
    if run.builder_id != request.user.pk and not request.user.is_staff:
        raise PermissionDenied("Only the builder of this run can do this.")
    return run


def draft(request: HttpRequest, run_id: UUID) -> Run:
    """One's own draft; else 404."""
    runs = Run.objects.owned_by(request.user).select_related("base_model")
    return get_object_or_404(runs, pk=run_id, state=Run.State.DRAFT)


def visible_model(request: HttpRequest, slug: str) -> Model:
    """A model that this person may read; a taken-down one stays, with its statement."""
    models = Model.objects.select_related("owner", "base_model", "run")
    model = get_object_or_404(models, slug=slug)
    if model.state == Model.State.TAKEN_DOWN:
        return model
    return get_object_or_404(models.visible_to(request.user), slug=slug)


def own_model(request: HttpRequest, slug: str) -> Model:
    model = visible_model(request, slug)
    if model.owner_id != request.user.pk:
        raise PermissionDenied("Only the owner of a model publishes and prices it.")
    return model
