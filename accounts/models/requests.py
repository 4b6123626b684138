"""Requests of the API that are carried out once, however often they are sent."""

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from accounts.models.base import Entity


class IdempotentRequest(Entity):
    """One person's request under an `Idempotency-Key`, and what was answered."""

    class State(models.TextChoices):
        RUNNING = "RUNNING", "Running"
        DONE = "DONE", "Done"

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="idempotent_requests"
    )
    key = models.CharField(max_length=100)
    # SHA-256 over method, path and body: the same key must mean the same request.
    body_hash = models.CharField(max_length=64)
    state = models.CharField(max_length=8, choices=State.choices, default=State.RUNNING)
    # A process may die with the request in hand; after this the next sending takes it up.
    lease_expires_at = models.DateTimeField()
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    answer = models.JSONField(null=True, blank=True, encoder=DjangoJSONEncoder)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "key"], name="idempotent_request_once"),
            models.CheckConstraint(
                condition=~models.Q(state="DONE") | models.Q(status__isnull=False),
                name="idempotent_request_done_has_an_answer",
            ),
        ]
        indexes = [models.Index(fields=["created_at"], name="idempotent_request_by_age")]

    def __str__(self) -> str:
        return f"{self.state} {self.key}"
