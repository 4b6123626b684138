"""What was done (audit), what people are told (notifications), what must be sent (outbox)."""

from django.conf import settings
from django.db import models
from django.utils import timezone

from accounts.models.base import Entity


class AuditEvent(Entity):
    """One administrative or state-changing act. Rows are only ever added."""

    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="audit_events",
    )
    verb = models.CharField(max_length=80)
    target_kind = models.CharField(max_length=80)
    target_id = models.UUIDField()
    data = models.JSONField(default=dict)
    at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["target_kind", "target_id", "-at"], name="audit_by_target"),
            models.Index(fields=["-at"], name="audit_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.verb} {self.target_kind} {self.target_id}"


class Notification(Entity):
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notifications"
    )
    kind = models.CharField(max_length=80)
    title = models.CharField(max_length=200)
    body = models.TextField(blank=True, default="")
    url = models.CharField(max_length=500, blank=True, default="")
    at = models.DateTimeField()
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["user", "-at"], name="notification_by_user")]

    def __str__(self) -> str:
        return self.title


class OutboxMessage(Entity):
    """A task to be sent to the broker, written in the transaction that causes it."""

    task = models.CharField(max_length=200)
    args = models.JSONField(default=list)
    queue = models.CharField(max_length=100)
    key = models.CharField(max_length=200, null=True, blank=True)
    available_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["available_at"],
                name="outbox_unsent",
                condition=models.Q(sent_at__isnull=True),
            )
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["key"],
                name="outbox_key_once_while_unsent",
                condition=models.Q(sent_at__isnull=True),
            )
        ]

    def __str__(self) -> str:
        return f"{self.task} → {self.queue}"
