"""Base models: what adapters are trained on and served with."""

from pathlib import Path

from django.conf import settings
from django.db import models
from django.db.models import TextChoices  # `models` also is a reverse relation below
from django.urls import reverse

from accounts.models.base import WorkItem


class BaseModelQuerySet(models.QuerySet["BaseModel"]):
    def ready(self) -> "BaseModelQuerySet":
        """Those whose files were checked."""
        return self.filter(state=BaseModel.State.READY)


class BaseModel(WorkItem):
    """A causal language model in a folder of this installation, checked by a worker.

    `folder` is absolute. `weights_sha256` is over the names and hashes of all weight files.
    """

    class State(TextChoices):
        REQUESTED = "REQUESTED", "Waiting for a worker"
        CHECKING = "CHECKING", "Being fetched and checked"
        READY = "READY", "Ready"
        FAILED = "FAILED", "Does not load"

        @property
        def chip(self) -> str:
            return {"READY": "good", "FAILED": "bad"}.get(self.value, "info")

    class Source(TextChoices):
        FOLDER = "FOLDER", "A folder of this installation"
        HUB = "HUB", "A model hub"

    slug = models.SlugField(max_length=80, unique=True)
    name = models.CharField(max_length=120)
    source = models.CharField(max_length=8, choices=Source.choices, default=Source.FOLDER)
    # What was asked for: a folder, or a hub id with an optional @revision.
    origin = models.CharField(max_length=500)
    folder = models.CharField(max_length=500, blank=True, default="")
    state = models.CharField(max_length=10, choices=State.choices, default=State.REQUESTED)
    architecture = models.CharField(max_length=60, blank=True, default="")
    config = models.JSONField(default=dict, blank=True)
    weights_sha256 = models.CharField(max_length=64, blank=True, default="")
    context_length = models.PositiveIntegerField(default=0)
    parameters = models.BigIntegerField(default=0)
    licence = models.CharField(max_length=60, blank=True, default="")
    card = models.TextField(blank=True, default="")
    registered_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )

    objects = BaseModelQuerySet.as_manager()

    class Meta:
        ordering = ["parameters", "slug"]
        indexes = [models.Index(fields=["state", "lease_expires_at"], name="base_model_by_lease")]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("modelfactory:base", args=[self.slug])

    @property
    def path(self) -> Path:
        return Path(self.folder)

    @property
    def phase(self) -> "BaseModel.State":
        return BaseModel.State(self.state)

    @property
    def is_ready(self) -> bool:
        return self.state == BaseModel.State.READY
