"""Runs: a builder's draft, its way through a worker, and what it told on the way."""

from typing import Any

import pgtrigger
from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse

from accounts.fields import WeiField
from accounts.models.base import Entity, WorkItem
from datanets.models import Version
from modelfactory.models.bases import BaseModel
from modelfactory.training.recipe import Recipe


class RunQuerySet(models.QuerySet["Run"]):
    def visible_to(self, user: Any) -> "RunQuerySet":
        """One's own, those of published models, and for staff all."""
        if user.is_staff:
            return self
        public = Q(model__state="PUBLISHED")
        return self.filter(public | Q(builder=user) if user.is_authenticated else public)

    def owned_by(self, user: Any) -> "RunQuerySet":
        return self.filter(builder=user) if user.is_authenticated else self.none()


class Run(WorkItem):
    """One training, or one merge of published models. A DRAFT is the wizard's memory; everything
    after it is the worker's."""

    class Kind(models.TextChoices):
        TRAIN = "TRAIN", "Training"
        MERGE = "MERGE", "Merge"

    class State(models.TextChoices):
        DRAFT = "DRAFT", "Draft"
        QUEUED = "QUEUED", "Waiting for a worker"
        RUNNING = "RUNNING", "Running"
        SUCCEEDED = "SUCCEEDED", "Succeeded"
        FAILED = "FAILED", "Failed"
        CANCELLED = "CANCELLED", "Cancelled"

        @property
        def chip(self) -> str:
            return {
                "QUEUED": "info",
                "RUNNING": "info",
                "SUCCEEDED": "good",
                "FAILED": "bad",
                "CANCELLED": "warn",
            }.get(self.value, "")

        @property
        def is_active(self) -> bool:
            """Whether it holds a place in the queue or a worker."""
            return self in (Run.State.QUEUED, Run.State.RUNNING)

    builder = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="runs"
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.DRAFT)
    kind = models.CharField(max_length=5, choices=Kind.choices, default=Kind.TRAIN)
    name = models.CharField(max_length=80)
    goal = models.TextField(blank=True, default="", max_length=2_000)
    base_model = models.ForeignKey(
        BaseModel, null=True, blank=True, on_delete=models.PROTECT, related_name="runs"
    )
    versions = models.ManyToManyField(Version, through="RunVersion", related_name="runs")
    recipe = models.JSONField(default=dict)
    estimate = models.JSONField(default=dict, blank=True)
    price = WeiField(default=0)
    device = models.CharField(max_length=20, blank=True, default="")
    dtype = models.CharField(max_length=20, blank=True, default="")
    step = models.PositiveIntegerField(default=0)
    steps = models.PositiveIntegerField(default=0)
    cancel_requested = models.BooleanField(default=False)
    # Ids of the records that were not trained on, and what the check said of which row.
    held_out = models.JSONField(default=list, blank=True)
    findings = models.JSONField(default=list, blank=True)
    result = models.JSONField(default=dict, blank=True)
    queued_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["builder", "-id"], name="run_by_builder"),
            models.Index(fields=["state", "queued_at"], name="run_by_queue"),
            models.Index(fields=["state", "lease_expires_at"], name="run_by_lease"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["DRAFT", "CANCELLED"]) | Q(base_model__isnull=False),
                name="run_started_with_base_model",
            )
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        if self.state == Run.State.DRAFT:
            return reverse("modelfactory:wizard-goal", args=[self.pk])
        return reverse("modelfactory:run", args=[self.pk])

    @property
    def phase(self) -> "Run.State":
        return Run.State(self.state)

    @property
    def parsed_recipe(self) -> Recipe:
        return Recipe.from_json(self.recipe)


class RunVersion(Entity):
    """A version that a run trains on. `weight`: how often its records are taken, 1 is once."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="run_versions")
    version = models.ForeignKey(Version, on_delete=models.PROTECT, related_name="run_versions")
    weight = models.PositiveSmallIntegerField(default=1)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["run", "version"], name="run_version_once"),
            models.CheckConstraint(condition=Q(weight__gte=1), name="run_version_weight_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.run_id}: {self.version_id} x {self.weight}"


class RunParent(Entity):
    """A published model that a run starts from; `weight` in basis points, all of a run's make
    10,000. Once the run has made its own model they never change, so that no model can come to
    descend from itself: a parent is always older than what is made of it."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="parents")
    model = models.ForeignKey(
        "modelfactory.Model", on_delete=models.PROTECT, related_name="descendants"
    )
    weight = models.PositiveIntegerField(default=10_000)

    class Meta:
        ordering = ["-weight", "id"]
        constraints = [
            models.UniqueConstraint(fields=["run", "model"], name="run_parent_once"),
            models.CheckConstraint(
                condition=Q(weight__gte=1) & Q(weight__lte=10_000), name="run_parent_weight"
            ),
        ]
        triggers = [
            pgtrigger.Trigger(
                name="is_older_than_the_model",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert | pgtrigger.Update | pgtrigger.Delete,
                func="""
                IF EXISTS (SELECT 1 FROM modelfactory_model m
                           WHERE m.run_id = coalesce(NEW.run_id, OLD.run_id)) THEN
                    RAISE EXCEPTION 'the parents of a model never change'
                        USING ERRCODE = 'check_violation';
                END IF;
                IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
                RETURN NEW;
                """,
            )
        ]

    def __str__(self) -> str:
        return f"{self.run_id}: {self.model_id} x {self.weight}"

    @property
    def percent(self) -> float:
        """For a page; money is never computed from it."""
        return self.weight / 100


class RunEvent(Entity):
    """One line of the training's events, numbered without gaps, over restarts too."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="events")
    sequence = models.PositiveIntegerField()
    kind = models.CharField(max_length=12)
    step = models.PositiveIntegerField(default=0)
    data = models.JSONField(default=dict)
    at = models.DateTimeField()

    class Meta:
        ordering = ["sequence"]
        constraints = [models.UniqueConstraint(fields=["run", "sequence"], name="run_event_once")]

    def __str__(self) -> str:
        return f"{self.run_id}#{self.sequence} {self.kind}"
