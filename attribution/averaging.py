"""A model for attribution as its run asked for it: with the checkpoints that were kept."""

from __future__ import annotations

import tempfile
from pathlib import Path

from attribution.influence.checkpoints import State, averaged
from attribution.influence.config import InfluenceConfig
from attribution.influence.model import AdaptedModel, load
from modelfactory.models import Model
from modelfactory.workers import materialise_checkpoints


def config_of(model: Model) -> InfluenceConfig:
    """How the model's index is built: over as many states as its run has kept."""
    return InfluenceConfig(checkpoints=max(1, len(model.run.result.get("checkpoints", []))))


def loaded(model: Model, adapter: Path, device: str) -> AdaptedModel:
    """The adapter in ``adapter`` on its base, with its checkpoints. Raises InfluenceError, and
    FileNotFoundError where the store lost one."""
    network = load(model.base_model.path, adapter, device)
    with tempfile.TemporaryDirectory(prefix="checkpoints-") as folder:
        kept = materialise_checkpoints(model, Path(folder))
        return averaged(network, [State(*one) for one in kept], config_of(model))
