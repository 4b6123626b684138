"""What a worker does about pins: those in force are in memory, those that ended may leave it.

Imported by workers alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from modelfactory.models import Model
from serving.engine.engine import Engine
from serving.engine.names import adapter_name
from serving.engine.types import EngineError
from serving.models import Pin
from serving.services import pins

logger = logging.getLogger(__name__)

# Has the model's adapter in the engine; returns its name there.
Ensure = Callable[[Engine, Model], str | None]


def keep(engine: Engine, base: str, ensure: Ensure, *, at: datetime) -> None:
    """Make the engine of a base hold what is pinned now, and nothing else as pinned."""
    wanted = set()
    found = Pin.objects.in_force(at).filter(deployment__base_model__slug=base)
    pinned = {one.name for one in engine.adapters() if one.pinned}
    for pin in found.select_related("deployment__model"):
        model = pin.deployment.model
        assert model is not None  # a base is never pinned
        name = adapter_name(model.adapter_sha256, model.adapter_config)
        wanted.add(name)
        if name not in pinned:
            try:
                ensure(engine, model)
                engine.pin_adapter(name)
            except (EngineError, OSError, ValueError) as error:
                logger.warning("pin %s failed: %s", pin.pk, error)
                pins.fail_pin(pin_id=pin.pk, reason=str(error), at=at)
                continue
        if pin.active_at is None:
            pins.note_pinned(pin_id=pin.pk, at=at)
    for name in pinned - wanted:
        engine.pin_adapter(name, pinned=False)
