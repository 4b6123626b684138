"""Putting a model into service, pricing it, taking it out."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from accounts import audit, outbox
from accounts.models import User
from accounts.notifications import notify
from accounts.workers import names_of_live_workers
from modelfactory.limits import HIGHEST_PRICE
from modelfactory.models import BaseModel, Model
from modelfactory.selectors import may_have_price
from serving.errors import NotDeployable, NoWorker
from serving.external.routing import QUEUE, queue_of
from serving.limits import BASE_INPUT_PRICE, BASE_OUTPUT_PRICE
from serving.models import Deployment, DeploymentState


def deploy(
    *,
    model: Model | None = None,
    base_model: BaseModel | None = None,
    input_price: int | None = None,
    output_price: int | None = None,
    acting_user: User,
    at: datetime,
) -> Deployment:
    """Put a model into service, or a base alone where staff give `base_model`.

    A worker that holds the base loads and checks the adapter; the deployment is LIVE after that,
    or STOPPED with `failure_reason`. A model brings its base's deployment with it, so that both
    can be asked side by side. Prices are wei per token; None takes the model's own. Deploying
    what is LIVE or REQUESTED already returns it as it stands.

    Raises NotDeployable (not yours, taken down, price out of range or against the records'
    licence) and NoWorker.
    """
    if (model is None) == (base_model is None):
        raise ValueError("Deploy either a model or a base.")
    base = model.base_model if model is not None else base_model
    assert base is not None
    if model is not None:
        _check_model(model, acting_user)
    elif not acting_user.is_staff:
        raise NotDeployable("A base alone is deployed by staff, or with the first model on it.")
    if not base.is_ready:
        raise NotDeployable(f"{base.name} is not ready: {base.phase.label}.")
    check_base_is_served(base, at=at)
    with transaction.atomic():
        if model is None:
            return _request(
                name=base.slug,
                base=base,
                model=None,
                owner=None,
                acting_user=acting_user,
                at=at,
                prices=(
                    _given(input_price, BASE_INPUT_PRICE),
                    _given(output_price, BASE_OUTPUT_PRICE),
                ),
            )
        if not Deployment.objects.filter(base_model=base, model=None).exists():
            _request(
                name=base.slug,
                base=base,
                model=None,
                owner=None,
                acting_user=acting_user,
                at=at,
                prices=(BASE_INPUT_PRICE, BASE_OUTPUT_PRICE),
            )
        return _request(
            name=model.slug,
            base=base,
            model=model,
            owner=model.owner,
            acting_user=acting_user,
            at=at,
            prices=(
                _given(input_price, model.input_price),
                _given(output_price, model.output_price),
            ),
        )


def stop(*, deployment: Deployment, acting_user: User, at: datetime) -> Deployment:
    """Take a deployment out of service; answers that have begun come to their end.

    Raises NotDeployable where it is somebody else's.
    """
    _check_owner(deployment, acting_user)
    with transaction.atomic():
        stopped = (
            Deployment.objects.filter(pk=deployment.pk)
            .exclude(state=DeploymentState.STOPPED)
            .update(
                state=DeploymentState.STOPPED,
                stopped_at=at,
                lease_owner="",
                lease_expires_at=None,
                failure_reason="",
            )
        )
        if stopped:
            audit.record(actor=acting_user, verb="deployment.stopped", target=deployment, at=at)
    deployment.refresh_from_db()
    return deployment


def set_prices(
    *, deployment: Deployment, input_price: int, output_price: int, acting_user: User, at: datetime
) -> Deployment:
    """Set wei per token for requests from now on; those that are held keep their price.

    Raises NotDeployable where it is somebody else's or a price is out of range, or where the
    records' licence allows none.
    """
    _check_owner(deployment, acting_user)
    _check_prices(deployment.model, input_price, output_price)
    with transaction.atomic():
        before = {"input": str(deployment.input_price), "output": str(deployment.output_price)}
        deployment.input_price, deployment.output_price = input_price, output_price
        deployment.save(update_fields=["input_price", "output_price"])
        audit.record(
            actor=acting_user,
            verb="deployment.priced",
            target=deployment,
            at=at,
            data={"before": before, "input": str(input_price), "output": str(output_price)},
        )
    return deployment


def claim_loading(*, deployment_id: UUID, owner: str, at: datetime) -> Deployment | None:
    """The worker begins to load; None where nothing is to be loaded, or another one does."""
    rows = Deployment.objects.filter(pk=deployment_id, state=DeploymentState.REQUESTED)
    free = rows.filter(Q(lease_owner="") | Q(lease_expires_at__lt=at))
    if not free.update(lease_owner=owner, lease_expires_at=at + settings.WORK_LEASE):
        return None
    found: Deployment = Deployment.objects.with_parts().get(pk=deployment_id)
    return found


def mark_live(*, deployment_id: UUID, at: datetime) -> bool:
    """The worker has loaded it; False where it was stopped meanwhile."""
    with transaction.atomic():
        rows = Deployment.objects.filter(pk=deployment_id, state=DeploymentState.REQUESTED)
        if not rows.update(
            state=DeploymentState.LIVE, live_at=at, lease_owner="", lease_expires_at=None
        ):
            return False
        deployment = Deployment.objects.get(pk=deployment_id)
        audit.record(actor=None, verb="deployment.live", target=deployment, at=at)
        _tell_owner(deployment, f"{deployment.name} is live", "", at)
    return True


def refuse(*, deployment_id: UUID, reason: str, at: datetime) -> bool:
    """The worker could not load it; it is STOPPED with the reason."""
    with transaction.atomic():
        rows = Deployment.objects.filter(pk=deployment_id, state=DeploymentState.REQUESTED)
        if not rows.update(
            state=DeploymentState.STOPPED,
            stopped_at=at,
            failure_reason=reason,
            lease_owner="",
            lease_expires_at=None,
        ):
            return False
        deployment = Deployment.objects.get(pk=deployment_id)
        audit.record(
            actor=None,
            verb="deployment.refused",
            target=deployment,
            at=at,
            data={"reason": reason},
        )
        _tell_owner(deployment, f"{deployment.name} could not be deployed", reason, at)
    return True


def request_again(pk: UUID, at: datetime) -> None:
    """For the sweeper: the worker that should load it did not come back."""
    Deployment.objects.filter(pk=pk, state=DeploymentState.REQUESTED).update(
        attempts=F("attempts") + 1, lease_owner="", lease_expires_at=at + settings.WORK_LEASE
    )
    _enqueue(Deployment.objects.select_related("base_model").get(pk=pk), at)


def fail_request(pk: UUID, reason: str, at: datetime) -> None:
    """For the sweeper: given up after too many attempts."""
    refuse(deployment_id=pk, reason=reason, at=at)


def check_base_is_served(base: BaseModel, *, at: datetime) -> None:
    """Raises NoWorker where no live worker holds this base, or asks the servers that do."""
    served_by(base, at=at)


def served_by(base: BaseModel, *, at: datetime) -> tuple[str, list[str]]:
    """The queue of those who answer for this base, and the live workers on it. Raises NoWorker."""
    queue = queue_of(base, at=at)
    alive = names_of_live_workers(queue=queue, at=at)
    if not alive:
        raise NoWorker(
            f"No live worker serves {base.name}. Start one on the queue {queue}, then try again."
        )
    return queue, alive


def _request(
    *,
    name: str,
    base: BaseModel,
    model: Model | None,
    owner: User | None,
    prices: tuple[int, int],
    acting_user: User,
    at: datetime,
) -> Deployment:
    _check_prices(model, *prices)
    deployment, created = Deployment.objects.select_for_update(of=("self",)).get_or_create(
        base_model=base,
        model=model,
        defaults={
            "name": name,
            "owner": owner,
            "input_price": prices[0],
            "output_price": prices[1],
            "lease_expires_at": at + settings.WORK_LEASE,
            "created_at": at,
        },
    )
    if not created:
        if deployment.state != DeploymentState.STOPPED:
            return deployment
        _restart(deployment, prices if model is not None else None, at)
    audit.record(actor=acting_user, verb="deployment.requested", target=deployment, at=at)
    _enqueue(deployment, at)
    return deployment


def _restart(deployment: Deployment, prices: tuple[int, int] | None, at: datetime) -> None:
    if prices is not None:
        deployment.input_price, deployment.output_price = prices
    deployment.state = DeploymentState.REQUESTED
    deployment.attempts = 0
    deployment.lease_owner = ""
    deployment.failure_reason = ""
    deployment.stopped_at = None
    deployment.lease_expires_at = at + settings.WORK_LEASE
    deployment.save(
        update_fields=[
            "input_price",
            "output_price",
            "state",
            "attempts",
            "failure_reason",
            "stopped_at",
            "lease_expires_at",
            "lease_owner",
        ]
    )


def _enqueue(deployment: Deployment, at: datetime) -> None:
    queue = queue_of(deployment.base_model, at=at)
    task = "load_elsewhere" if queue == QUEUE else "load"
    outbox.enqueue(task=f"serving.tasks.{task}", args=[str(deployment.pk)], queue=queue, at=at)


def _check_model(model: Model, acting_user: User) -> None:
    if not (acting_user.is_staff or model.owner_id == acting_user.pk):
        raise NotDeployable("Only the owner of a model deploys it.")
    if model.state == Model.State.TAKEN_DOWN:
        raise NotDeployable("This model was taken down, so it cannot be deployed.")


def _check_owner(deployment: Deployment, acting_user: User) -> None:
    if not deployment.may_be_changed_by(acting_user):
        raise NotDeployable("Only the owner of a deployment changes it.")


def _check_prices(model: Model | None, *prices: int) -> None:
    if any(not 0 <= price <= HIGHEST_PRICE for price in prices):
        raise NotDeployable("A price is from 0 to 1 OPEN per token.")
    if model is not None and any(prices) and not may_have_price(model):
        raise NotDeployable(
            "Its records may not be used commercially, so it is deployed at a price of 0."
        )


def _given(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value


def _tell_owner(deployment: Deployment, title: str, body: str, at: datetime) -> None:
    if deployment.owner is not None:
        notify(
            user=deployment.owner,
            kind="deployment",
            title=title,
            body=body,
            url=deployment.get_absolute_url(),
            at=at,
        )
