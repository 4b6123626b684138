"""Fetching and checking a base model on a worker. Only tasks import this module."""

import logging
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts import audit, leases
from modelfactory.models import BaseModel
from modelfactory.services import bases
from modelfactory.training.bases import BaseFolderError, inspect

logger = logging.getLogger(__name__)

FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "README.md", "LICENSE*"]


def check(base_id: UUID) -> bool:
    """REQUESTED → READY or FAILED; False where somebody else has it."""
    owner = leases.worker_name()
    claimed = leases.claim(
        BaseModel,
        base_id,
        from_states=[BaseModel.State.REQUESTED],
        to_state=BaseModel.State.CHECKING,
        owner=owner,
        at=timezone.now(),
        lease=10 * settings.WORK_LEASE,  # a fetch of some gigabytes tells nothing on its way
    )
    if not claimed:
        return False
    base = BaseModel.objects.get(pk=base_id)
    try:
        folder = fetch(base)
        facts = inspect(folder)
        load(folder)
    except BaseFolderError as error:
        bases.fail(base_id, str(error), timezone.now(), owner=owner)
        return True
    except Exception as error:
        logger.exception("base model %s", base.slug)
        reason = f"It does not load: {type(error).__name__}: {error}"
        bases.fail(base_id, reason, timezone.now(), owner=owner)
        return True
    with transaction.atomic():
        if not leases.finish(BaseModel, base_id, owner=owner, to_state=BaseModel.State.READY):
            return True  # somebody else has it, and its end
        BaseModel.objects.filter(pk=base_id).update(folder=str(folder), **bases.columns(facts))
        audit.record(
            actor=None,
            verb="base.registered",
            target=base,
            data={"weights_sha256": facts.weights_sha256},
            at=timezone.now(),
        )
    return True


def fetch(base: BaseModel) -> Path:
    """The folder of the base model; one from a hub is brought here first."""
    if base.source == BaseModel.Source.FOLDER:
        return Path(base.origin)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repository, _, revision = base.origin.partition("@")
    target = Path(settings.DATA_DIR) / "bases" / str(base.pk)
    try:
        snapshot_download(
            repository, revision=revision or None, local_dir=target, allow_patterns=FILES
        )
    except GatedRepoError as error:
        raise BaseFolderError(
            f"{repository} is gated: accept its terms on the hub and give the worker a token."
        ) from error
    except RevisionNotFoundError as error:
        raise BaseFolderError(f"{repository} has no revision {revision}.") from error
    except RepositoryNotFoundError as error:
        raise BaseFolderError(f"The hub has no model {repository}. Check its id.") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        raise BaseFolderError(
            f"The hub could not be reached ({type(error).__name__}). Try again later, or register "
            "the model from a folder."
        ) from error
    return target


def load(folder: Path) -> None:
    """Load the model and predict one token. Raises BaseFolderError with what went wrong."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([[0, 1]])).logits
    except Exception as error:
        raise BaseFolderError(f"transformers cannot load it: {error}") from error
    if not torch.isfinite(logits).all():
        raise BaseFolderError("The weights are broken: the model predicts no numbers.")
