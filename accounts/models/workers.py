from django.db import models

from accounts.models.base import Entity


class WorkerHeartbeat(Entity):
    """The last sign of life of one worker process on one queue."""

    name = models.CharField(max_length=200)
    queue = models.CharField(max_length=100)
    pid = models.PositiveIntegerField()
    device = models.CharField(max_length=40)
    dtype = models.CharField(max_length=20)
    at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["name", "queue"], name="heartbeat_once_per_queue")
        ]

    def __str__(self) -> str:
        return f"{self.name} on {self.queue} ({self.device})"
