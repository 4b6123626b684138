"""Reading deployments and completions."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Count, Q, QuerySet, Sum
from django.urls import reverse

from accounts.compiled import Compiled
from accounts.models import User
from attribution.texts import Texts
from modelfactory.models import Model
from serving.errors import UnknownModel
from serving.models import Completion, CompletionState, Deployment, DeploymentState, Pin
from serving.models.deployments import Viewer


def usable_deployments(user: Viewer) -> QuerySet[Deployment]:
    """What this person can ask now, bases first."""
    found: QuerySet[Deployment] = (
        Deployment.objects.usable_by(user)
        .with_parts()
        .annotate(is_tuned=Q(model__isnull=False))
        .order_by("is_tuned", "name")
    )
    return found


# As those ask who are no staff, whose requests are many.
_USABLE = Compiled(
    lambda name, user: Deployment.objects.usable_by(User(pk=user)).with_parts().filter(name=name)
)


def usable_deployment(*, name: str, user: Viewer) -> Deployment:
    """The deployment with that model id. Raises UnknownModel, also for what is not theirs."""
    found: Deployment | None
    if user.is_staff or not user.is_authenticated:
        found = Deployment.objects.usable_by(user).with_parts().filter(name=name).first()
    elif "\0" in name:
        found = None
    else:
        found = _USABLE.first(name=name, user=user.pk)
    if found is None:
        raise UnknownModel(
            f"There is no model {name[:100]!r} that you can ask. GET /v1/models lists them.",
            parameter="model",
        )
    return found


def base_deployment_of(deployment: Deployment) -> Deployment | None:
    """The base alone of the same model, for the side by side."""
    found: Deployment | None = Deployment.objects.filter(
        base_model=deployment.base_model, model=None
    ).first()
    return found


def deployment_url(identifier: UUID | str) -> str:
    name = Deployment.objects.filter(pk=identifier).values_list("name", flat=True).first()
    return reverse("serving:deployment", args=[name]) if name else ""


def texts_of(completion_id: UUID) -> Texts | None:
    """For who scores an answer once more (`attribution.texts`)."""
    found = Completion.objects.filter(pk=completion_id).first()
    if found is None:
        return None
    return Texts(found.prompt, found.answer, list(found.prompt_ids), list(found.answer_ids))


def prompt_tokens_url(completion_id: UUID | str) -> str:
    """The part that tells which tokens of the question mattered; "" of no completion of ours."""
    if not Completion.objects.filter(pk=completion_id).exists():
        return ""
    return reverse("serving:prompt_tokens", args=[completion_id])


def pin_url(identifier: UUID | str) -> str:
    """The page of the deployment that a pin is of."""
    name = Pin.objects.filter(pk=identifier).values_list("deployment__name", flat=True).first()
    return reverse("serving:pin", args=[name]) if name else ""


def model_deployment_url(model_id: UUID | str) -> str:
    """The page that says what the model costs, "" where it is not in service."""
    found = Deployment.objects.filter(model__pk=model_id).exclude(state=DeploymentState.STOPPED)
    name = found.values_list("name", flat=True).first()
    return reverse("serving:deployment", args=[name]) if name else ""


def model_playground_url(model_id: UUID | str) -> str:
    """Where the model is asked, "" where it is not live."""
    found = Deployment.objects.filter(model__pk=model_id, state=DeploymentState.LIVE)
    name = found.values_list("name", flat=True).first()
    return f"{reverse('serving:playground')}?model={name}" if name else ""


def usage_of(found: QuerySet[Completion]) -> dict[str, int]:
    """Completions in figures: how many, tokens in and out, wei spent."""
    figures: dict[str, int | None] = found.aggregate(
        completions=Count("id"),
        prompt_tokens=Sum("prompt_tokens"),
        completion_tokens=Sum("completion_tokens"),
        fee=Sum("fee"),
    )
    return {name: value or 0 for name, value in figures.items()}


def traffic_of(deployment: Deployment) -> dict[str, int]:
    """A deployment's answered completions in figures."""
    answered = deployment.completions.filter(
        state__in=[CompletionState.SUCCEEDED, CompletionState.CANCELLED]
    )
    figures = answered.aggregate(
        completions=Count("id"), tokens=Sum("completion_tokens"), fee=Sum("fee")
    )
    return {name: value or 0 for name, value in figures.items()}


def model_by_slug_or_id(wish: str) -> Model | None:
    """The model that an address names; links from lower rooms know only its id."""
    try:
        return Model.objects.filter(pk=UUID(wish)).first()
    except ValueError:
        return Model.objects.filter(slug=wish).first()
