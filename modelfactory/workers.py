"""What workers of other rooms take from a model: its adapter as a folder that PEFT reads."""

import json
import os
from pathlib import Path
from uuid import UUID

from accounts.blobs import CHUNK, open_blob
from modelfactory.models import Model


def materialise_adapter(model_id: UUID | str, folder: Path | str) -> Path:
    """Write adapter_model.safetensors and adapter_config.json into `folder` and return it.

    Two workers may do it at once: each file is replaced whole. The config is written last, so
    a folder that has one is complete. Raises FileNotFoundError where the store lost the blob.
    """
    model = Model.objects.only("adapter_sha256", "adapter_config").get(pk=model_id)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    part = target / f".adapter.{os.getpid()}.{os.urandom(4).hex()}"
    _fetch(model.adapter_sha256, part)
    part.replace(target / "adapter_model.safetensors")
    part.write_text(json.dumps(model.adapter_config, indent=1, sort_keys=True), "utf-8")
    part.replace(target / "adapter_config.json")
    return target


def materialise_checkpoints(model: Model, folder: Path) -> list[tuple[Path, float]]:
    """The run's states for attribution as files, with their learning rates, in the order of their
    steps and the finished adapter the last; none where its recipe asked for none.

    Raises FileNotFoundError where the store lost one.
    """
    states = model.run.result.get("checkpoints", [])
    found = []
    for number, state in enumerate(states):
        path = folder / f"checkpoint-{number}.safetensors"
        _fetch(state["adapter_sha256"], path)
        found.append((path, float(state["rates"])))
    return found


def _fetch(sha256: str, path: Path) -> None:
    with open_blob(sha256) as source, path.open("wb") as out:
        while chunk := source.read(CHUNK):
            out.write(chunk)
