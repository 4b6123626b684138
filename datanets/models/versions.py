"""Immutable, numbered snapshots of accepted records, and the work that builds them."""

import pgtrigger
from django.conf import settings
from django.db import models
from django.urls import reverse

from accounts.models import Blob
from accounts.models.base import Entity, WorkItem
from datanets.models.datanets import Datanet, DatanetState, Viewer
from datanets.models.records import Record


class VersionQuerySet(models.QuerySet["Version"]):
    def visible_to(self, user: Viewer) -> "VersionQuerySet":
        """Versions of Datanets that the user sees."""
        return self.filter(datanet__in=Datanet.objects.visible_to(user).values("pk"))

    def usable_by(self, user: Viewer) -> "VersionQuerySet":
        """Versions that the user may train on."""
        return self.visible_to(user).exclude(datanet__state=DatanetState.TAKEN_DOWN)


class Version(Entity):
    """root: hex of the RFC 9162 tree over the leaves in the order of record ids."""

    datanet = models.ForeignKey(Datanet, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    root = models.CharField(max_length=64)
    record_count = models.PositiveIntegerField()
    contributor_count = models.PositiveIntegerField()
    licence = models.CharField(max_length=40)
    manifest = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="+")
    records_file = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="+")
    previous = models.OneToOneField(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="next"
    )
    note = models.CharField(max_length=500, blank=True, default="")
    published_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    published_at = models.DateTimeField()

    objects = VersionQuerySet.as_manager()

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["datanet", "number"], name="version_number_once")
        ]
        triggers = [
            pgtrigger.Protect(
                name="version_is_immutable", operation=pgtrigger.Update | pgtrigger.Delete
            )
        ]

    def __str__(self) -> str:
        return f"{self.datanet} v{self.number}"

    def get_absolute_url(self) -> str:
        return reverse("datanets:version", args=[self.datanet.slug, self.number])


class VersionRecord(Entity):
    """position: the leaf's index in the version's tree, from 0."""

    version = models.ForeignKey(Version, on_delete=models.PROTECT, related_name="entries")
    record = models.ForeignKey(Record, on_delete=models.PROTECT, related_name="version_entries")
    position = models.PositiveIntegerField()

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["version", "record"], name="version_record_once"),
            models.UniqueConstraint(fields=["version", "position"], name="version_position_once"),
        ]
        triggers = [
            pgtrigger.Protect(
                name="version_record_is_immutable", operation=pgtrigger.Update | pgtrigger.Delete
            )
        ]

    def __str__(self) -> str:
        return f"{self.version_id}[{self.position}]"


class VersionBuildState(models.TextChoices):
    QUEUED = "QUEUED", "Waiting"
    BUILDING = "BUILDING", "Building"
    DONE = "DONE", "Done"
    FAILED = "FAILED", "Failed"


class VersionBuild(WorkItem):
    """The wish for a version, on its way through a worker."""

    datanet = models.ForeignKey(Datanet, on_delete=models.CASCADE, related_name="version_builds")
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    note = models.CharField(max_length=500, blank=True, default="")
    state = models.CharField(
        max_length=10, choices=VersionBuildState.choices, default=VersionBuildState.QUEUED
    )
    version = models.OneToOneField(
        Version, null=True, blank=True, on_delete=models.PROTECT, related_name="build"
    )

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["datanet"],
                condition=models.Q(state__in=["QUEUED", "BUILDING"]),
                name="version_build_one_at_a_time",
            )
        ]

    def __str__(self) -> str:
        return f"{self.datanet}: {self.state}"

    @property
    def is_moving(self) -> bool:
        return self.state in (VersionBuildState.QUEUED, VersionBuildState.BUILDING)
