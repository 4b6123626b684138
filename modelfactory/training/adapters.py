"""The frozen base model, and the LoRA adapter that is put on it and written down."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from modelfactory.training.job import Job, JobError
from modelfactory.training.recipe import Recipe


def load_base(job: Job) -> Any:
    """The frozen base model on its device. Raises JobError where it does not load."""
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            job.base_folder, dtype=getattr(torch, job.dtype), local_files_only=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise JobError(f"The base model {job.base_name} does not load: {error}") from error
    return model.to(job.device)


def adapt(model: Any, job: Job, recipe: Recipe) -> Any:
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=targets(model, recipe.targets),
        use_rslora=recipe.use_rslora,
        use_dora=recipe.use_dora,
        bias="none",
    )
    adapted: Any = get_peft_model(model, config)
    # The adapter travels: it names its base, not a folder of this machine.
    adapted.peft_config["default"].base_model_name_or_path = job.base_name
    adapted.train()
    return adapted


def targets(model: Any, wanted: str) -> str | list[str]:
    """Names of the modules that get an adapter. Raises JobError where there is none."""
    if wanted == "all-linear":
        return wanted
    marks = {"attention": ("attn", "attention"), "mlp": ("mlp", "ffn", "feed_forward")}[wanted]
    names = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D") and any(m in name for m in marks)
    }
    if not names:
        raise JobError(f"This base model has no layers of the kind {wanted!r}. Use all-linear.")
    return sorted(names)


def save_adapter(model: Any, folder: Path) -> None:
    """Write the adapter as PEFT reads it; the config last, so that it stands for a whole one."""
    folder.mkdir(exist_ok=True)
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    save_file(
        {name: tensor.detach().float().cpu().contiguous() for name, tensor in weights.items()},
        folder / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    config = model.peft_config["default"]
    config.inference_mode = True
    config.save_pretrained(folder)
    config.inference_mode = False
