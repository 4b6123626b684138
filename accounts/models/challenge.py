from django.conf import settings
from django.db import models
from django.db.models import F, Q

from accounts.models.base import Entity


class SignInChallenge(Entity):
    """The text (EIP-4361) that the server asked a wallet to sign. Good for one attempt."""

    class Purpose(models.TextChoices):
        SIGN_IN = "SIGN_IN", "Sign in"
        LINK = "LINK", "Link a wallet"

    purpose = models.CharField(max_length=10, choices=Purpose.choices)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="sign_in_challenges",
    )
    nonce = models.CharField(max_length=40, unique=True)
    domain = models.CharField(max_length=260)
    chain_id = models.BigIntegerField()
    address = models.CharField(max_length=42)
    text = models.TextField()
    issued_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    spent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(purpose="SIGN_IN", user__isnull=True)
                | Q(purpose="LINK", user__isnull=False),
                name="challenge_user_only_to_link",
            ),
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("issued_at")), name="challenge_expires_later"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} {self.address} {self.nonce}"
