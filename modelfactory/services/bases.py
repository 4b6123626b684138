"""Registering base models: asked for in the browser, fetched and checked by a worker."""

import re
from datetime import datetime
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.utils.text import slugify

from accounts import audit, outbox
from accounts.models import User
from accounts.notifications import notify
from modelfactory.errors import BaseModelError
from modelfactory.models import BaseModel
from modelfactory.training.bases import BaseFacts, inspect

TASK = "modelfactory.tasks.check_base"
QUEUE = "train"
STARTER = "starter"
HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}(@[\w./-]{1,96})?")


def register_base(
    *, origin: str, source: str, name: str = "", acting_user: User, at: datetime
) -> BaseModel:
    """Ask for a base model: `origin` is a folder on the worker, or a hub id with "@revision".

    Staff only, since everybody's adapters and fees hang on it. Raises PermissionDenied,
    BaseModelError (ORIGIN, TAKEN).
    """
    if not acting_user.is_staff:
        raise PermissionDenied("Only staff register base models.")
    origin = origin.strip()
    if source == BaseModel.Source.HUB and not HUB_ID.fullmatch(origin):
        raise BaseModelError("ORIGIN", "A hub id looks like owner/name or owner/name@revision.")
    if source == BaseModel.Source.FOLDER and not Path(origin).is_absolute():
        raise BaseModelError("ORIGIN", "Give the folder's whole path, beginning with a slash.")
    title = name.strip() or origin.partition("@")[0].rstrip("/").rpartition("/")[2]
    try:
        with transaction.atomic():
            base = BaseModel.objects.create(
                slug=slugify(title)[:80] or "base",
                name=title[:120],
                source=source,
                origin=origin,
                registered_by=acting_user,
                created_at=at,
            )
            _enqueue(base.pk, at)
            audit.record(
                actor=acting_user,
                verb="base.requested",
                target=base,
                data={"origin": origin},
                at=at,
            )
    except IntegrityError:
        raise BaseModelError(
            "TAKEN", f"There is a base model called {title}. Give this one another name."
        ) from None
    return base


def check_again(*, base: BaseModel, acting_user: User, at: datetime) -> None:
    """Try once more what did not load. Raises PermissionDenied, BaseModelError (STATE)."""
    if not acting_user.is_staff:
        raise PermissionDenied("Only staff register base models.")
    with transaction.atomic():
        moved = BaseModel.objects.filter(pk=base.pk, state=BaseModel.State.FAILED).update(
            state=BaseModel.State.REQUESTED, attempts=0, failure_reason=""
        )
        if not moved:
            raise BaseModelError("STATE", "Only a base model that does not load is checked again.")
        _enqueue(base.pk, at)
        audit.record(actor=acting_user, verb="base.requested_again", target=base, at=at)


def register_starter(*, at: datetime) -> BaseModel:
    """Make the model of this repository known; a second call renews its facts."""
    folder = Path(settings.BASE_DIR) / "modelfactory" / "starter"
    facts = inspect(folder)
    base, is_new = BaseModel.objects.update_or_create(
        slug=STARTER,
        defaults={
            "name": "OpenLedger Starter",
            "source": BaseModel.Source.FOLDER,
            "origin": str(folder),
            "folder": str(folder),
            "state": BaseModel.State.READY,
            "failure_reason": "",
            **columns(facts),
        },
        create_defaults=None,
    )
    if is_new:
        audit.record(actor=None, verb="base.registered", target=base, at=at)
    return base


def columns(facts: BaseFacts) -> dict[str, object]:
    """The facts as columns of BaseModel."""
    return {
        "architecture": facts.architecture[:60],
        "config": facts.config,
        "weights_sha256": facts.weights_sha256,
        "parameters": facts.parameters,
        "context_length": facts.context_length,
        "licence": facts.licence,
        "card": facts.card,
    }


def requeue(pk: UUID, at: datetime) -> None:
    """The sweeper's way back."""
    moved = BaseModel.objects.filter(pk=pk, state=BaseModel.State.CHECKING).update(
        state=BaseModel.State.REQUESTED, lease_owner="", lease_expires_at=None
    )
    if moved:
        _enqueue(pk, at)


def fail(pk: UUID, reason: str, at: datetime, owner: str | None = None) -> None:
    """It does not load: say why to whoever asked for it, unless `owner` is named and has lost
    the lease."""
    with transaction.atomic():
        checked = BaseModel.objects.filter(pk=pk, state=BaseModel.State.CHECKING)
        if owner is not None:
            checked = checked.filter(lease_owner=owner)
        moved = checked.update(
            state=BaseModel.State.FAILED,
            failure_reason=reason,
            lease_owner="",
            lease_expires_at=None,
        )
        if not moved:
            return
        base = BaseModel.objects.select_related("registered_by").get(pk=pk)
        audit.record(actor=None, verb="base.failed", target=base, data={"reason": reason}, at=at)
        if base.registered_by:
            notify(
                user=base.registered_by,
                kind="modelfactory.base_failed",
                title=f"The base model {base.name} does not load",
                body=reason,
                url=base.get_absolute_url(),
                at=at,
            )


def _enqueue(pk: UUID, at: datetime) -> None:
    outbox.enqueue(task=TASK, args=[str(pk)], queue=QUEUE, at=at)
