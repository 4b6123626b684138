"""Servers elsewhere: registered and changed by staff, checked by workers."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F

from accounts import audit
from accounts.models import User
from modelfactory.models import BaseModel
from serving.errors import ReplicaRefused
from serving.external import addresses, secrets
from serving.models import Deployment, Replica, ReplicaAdapter, ReplicaKind, ReplicaState

# After so many failed requests in a row it is asked no more, until a check finds it well.
FAILURES = 3


def register_replica(
    *,
    name: str,
    base_model: BaseModel,
    kind: ReplicaKind,
    base_url: str,
    served_name: str,
    key: str = "",
    adapter_folder: str = "",
    slots: int = 32,
    max_adapters: int = 8,
    acting_user: User,
    at: datetime,
) -> Replica:
    """Have a server elsewhere answer for a base. The audit event has no key.

    Raises ReplicaRefused (not staff, the name is taken, the base is not ready) and BadAddress.
    """
    _check_staff(acting_user)
    if not base_model.is_ready:
        raise ReplicaRefused(f"{base_model.name} is not ready: {base_model.phase.label}.")
    url = addresses.normalised(base_url)
    addresses.target(url)
    replica = Replica(
        created_at=at,
        name=name,
        base_model=base_model,
        kind=kind,
        base_url=url,
        served_name=served_name,
        sealed_key=secrets.seal(key),
        adapter_folder=adapter_folder,
        slots=slots,
        max_adapters=max_adapters,
    )
    try:
        with transaction.atomic():
            replica.save(force_insert=True)
            audit.record(
                actor=acting_user,
                verb="replica.registered",
                target=replica,
                at=at,
                data={"base_url": url, "base": base_model.slug, "kind": kind},
            )
    except IntegrityError as error:
        raise ReplicaRefused(f"There is a replica {name} already. Choose another name.") from error
    return replica


def change_replica(
    *, replica: Replica, is_enabled: bool, key: str | None = None, acting_user: User, at: datetime
) -> Replica:
    """Ask it or ask it no more, and give it another key where there is one (None keeps it).

    What it is answering comes to its end. Raises ReplicaRefused.
    """
    _check_staff(acting_user)
    with transaction.atomic():
        replica.is_enabled = is_enabled
        replica.state, replica.state_reason, replica.failures = ReplicaState.UNCHECKED, "", 0
        if key is not None:
            replica.sealed_key = secrets.seal(key)
        replica.save(
            update_fields=["is_enabled", "state", "state_reason", "failures", "sealed_key"]
        )
        audit.record(
            actor=acting_user,
            verb="replica.changed",
            target=replica,
            at=at,
            data={"is_enabled": is_enabled, "has_new_key": key is not None},
        )
    return replica


def remove_replica(*, replica: Replica, acting_user: User, at: datetime) -> None:
    """Forget a server. What it answered stays. Raises ReplicaRefused."""
    _check_staff(acting_user)
    with transaction.atomic():
        audit.record(
            actor=acting_user,
            verb="replica.removed",
            target=replica,
            at=at,
            data={"base_url": replica.base_url},
        )
        replica.delete()


def note_checked(
    *, replica_id: UUID, answer_ms: int, adapters: Collection[str] | None, at: datetime
) -> None:
    """It is well; of the adapters that it was told to load it still has those in `adapters`."""
    Replica.objects.filter(pk=replica_id).update(
        state=ReplicaState.HEALTHY, state_reason="", failures=0, answer_ms=answer_ms, checked_at=at
    )
    if adapters is not None:
        ReplicaAdapter.objects.filter(replica=replica_id).exclude(name__in=adapters).delete()


def note_failing(*, replica_id: UUID, reason: str, at: datetime) -> None:
    """A check failed."""
    Replica.objects.filter(pk=replica_id).update(
        state=ReplicaState.FAILING, state_reason=reason[:300], checked_at=at
    )


def note_failed_request(*, replica_id: UUID, reason: str, is_down: bool) -> None:
    """It is asked no more where it could not be reached, or failed too often in a row."""
    rows = Replica.objects.filter(pk=replica_id)
    rows.update(failures=F("failures") + 1, state_reason=reason[:300])
    if not is_down:
        rows = rows.filter(failures__gte=FAILURES)
    rows.update(state=ReplicaState.FAILING)


def note_answered(*, replica_id: UUID, usage_differs: bool) -> None:
    Replica.objects.filter(pk=replica_id).update(
        failures=0,
        answered=F("answered") + 1,
        usage_differed=F("usage_differed") + int(usage_differs),
    )


def note_loaded(
    *, replica: Replica, deployment: Deployment, name: str, load_ms: int, at: datetime
) -> None:
    ReplicaAdapter.objects.update_or_create(
        replica=replica,
        name=name,
        defaults={"deployment": deployment, "load_ms": load_ms, "used_at": at},
    )


def note_used(*, replica: Replica, name: str, at: datetime) -> None:
    ReplicaAdapter.objects.filter(replica=replica, name=name).update(hits=F("hits") + 1, used_at=at)


def forget_adapter(*, replica: Replica, name: str) -> None:
    """The server does not have it any more."""
    ReplicaAdapter.objects.filter(replica=replica, name=name).delete()


def _check_staff(user: User) -> None:
    if not user.is_staff:
        raise ReplicaRefused("Only staff register servers.")
