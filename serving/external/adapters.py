"""Adapters on servers elsewhere: written where the server reads them, loaded by their hash."""

from __future__ import annotations

import logging
import time
from pathlib import PurePosixPath

from django.conf import settings
from django.utils import timezone

from modelfactory.workers import materialise_adapter
from serving.engine.names import adapter_name
from serving.external import secrets
from serving.external.client import ReplicaClient, ReplicaDown, ReplicaError
from serving.models import Deployment, Pin, Replica, ReplicaAdapter, ReplicaKind
from serving.services import replicas

logger = logging.getLogger(__name__)


def client_of(replica: Replica) -> ReplicaClient:
    """Raises ReplicaDown where its key is lost."""
    try:
        return ReplicaClient(replica, secrets.unseal(replica.sealed_key))
    except secrets.KeyLost as error:
        raise ReplicaDown(str(error)) from error


def name_of(deployment: Deployment) -> str | None:
    """The content hash of the deployment's adapter; None for the base."""
    model = deployment.model
    return None if model is None else adapter_name(model.adapter_sha256, model.adapter_config)


def held_by(replica: Replica) -> list[str] | None:
    """What it has loaded, once it is well. Raises ReplicaError where it is not."""
    client = client_of(replica)
    if replica.kind == ReplicaKind.VLLM:
        client.check_health()
    models = client.models()
    if replica.served_name not in models:
        raise ReplicaError(f"It does not serve {replica.served_name!r}, but {models[:5]}.")
    return models


def ensure(replica: Replica, deployment: Deployment) -> str | None:
    """Have the deployment's adapter loaded there; its name, None for the base.

    Raises ReplicaError, and OSError where the adapter cannot be written.
    """
    name = name_of(deployment)
    if name is None or deployment.model is None:
        return None
    if ReplicaAdapter.objects.filter(replica=replica, name=name).exists():
        replicas.note_used(replica=replica, name=name, at=timezone.now())
        return name
    started = time.monotonic()
    if replica.kind == ReplicaKind.VLLM:
        folder = settings.EXTERNAL_ADAPTER_DIR / name
        if not (folder / "adapter_config.json").exists():
            materialise_adapter(deployment.model.pk, folder)
        seen = PurePosixPath(replica.adapter_folder or str(settings.EXTERNAL_ADAPTER_DIR))
        client_of(replica).load(name, str(seen / name))
    elif name not in client_of(replica).models():
        raise ReplicaError("It was not started with this adapter, and loads none.")
    replicas.note_loaded(
        replica=replica,
        deployment=deployment,
        name=name,
        load_ms=round((time.monotonic() - started) * 1_000),
        at=timezone.now(),
    )
    _make_room(replica)
    return name


def forget(replica: Replica, name: str) -> None:
    replicas.forget_adapter(replica=replica, name=name)


def _make_room(replica: Replica) -> None:
    """Tell it to drop the longest unused beyond what it holds; it may have done so by itself."""
    if replica.kind != ReplicaKind.VLLM:
        return
    client = client_of(replica)
    held = ReplicaAdapter.objects.filter(replica=replica)
    pinned = Pin.objects.in_force(timezone.now()).values("deployment")
    over = max(0, held.count() - replica.max_adapters)
    for old in held.exclude(deployment__in=pinned).order_by("used_at")[:over]:
        try:
            client.unload(old.name)
        except ReplicaError as error:
            logger.info("replica %s did not unload %s: %s", replica.name, old.name[:12], error)
            return
        replicas.forget_adapter(replica=replica, name=old.name)
