"""What every row has, and what every piece of work that a worker claims has."""

from django.db import models
from django.utils import timezone

from accounts.ids import uuid7


class Entity(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        abstract = True


class WorkItem(Entity):
    """Work that one worker at a time holds by a lease. The concrete model adds `state`."""

    attempts = models.PositiveSmallIntegerField(default=0)
    lease_owner = models.CharField(max_length=200, blank=True, default="")
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    failure_reason = models.TextField(blank=True, default="")

    class Meta:
        abstract = True
