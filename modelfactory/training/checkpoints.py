"""The state from which a training goes on to the same bits: adapter, optimiser, randomness."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict


@dataclass
class Progress:
    """How far a training is."""

    step: int = 0  # optimiser steps taken
    seconds: float = 0.0  # spent in steps
    tokens: int = 0  # read, without padding
    last_evaluation: int = -1
    before: dict[str, Any] = field(default_factory=dict)  # held-out losses of the base model

    def epoch(self, schedule: list[list[Any]]) -> float:
        """Epochs done, with the part of the present one."""
        left = self.step
        for number, steps in enumerate(schedule):
            if left < len(steps):
                return number + left / len(steps)
            left -= len(steps)
        return float(len(schedule))


def save_checkpoint(
    folder: Path, model: Any, optimizer: torch.optim.Optimizer, progress: Progress
) -> None:
    """Replace the checkpoint whole: a kill at any moment leaves the old one or the new one."""
    target = folder / "checkpoint"
    target.mkdir(exist_ok=True)
    state = {
        "adapter": get_peft_model_state_dict(model, save_embedding_layers=False),
        "optimizer": optimizer.state_dict(),
        "progress": asdict(progress),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    torch.save(state, target / "state.new")
    (target / "state.new").replace(target / "state.pt")


def load_checkpoint(
    folder: Path,
    model: Any,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    device: str,
) -> bool:
    """Put the last checkpoint into what is given; False where there is none."""
    path = folder / "checkpoint" / "state.pt"
    if not path.exists():
        return False
    state = torch.load(path, map_location="cpu", weights_only=True)
    set_peft_model_state_dict(model, state["adapter"])
    optimizer.load_state_dict(state["optimizer"])
    for f in fields(Progress):
        setattr(progress, f.name, state["progress"][f.name])
    torch.set_rng_state(state["random"])
    if device == "cuda" and state["random_cuda"]:
        torch.cuda.set_rng_state_all(state["random_cuda"])
    return True
