"""API keys. Only the SHA-256 of a key is kept; a key has 238 random bits, so no salt is needed."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from accounts.fields import WeiField
from accounts.models.base import Entity


class Scope(models.TextChoices):
    """What a key opens. The word is that of the form, the API's errors and the docs."""

    ASK = "ASK", "Ask models and pay for the answers"
    READ = "READ", "Read what you can read"
    WRITE = "WRITE", "Contribute, review, train and deploy"
    MONEY = "MONEY", "Move money: withdraw, transfer, stake"


def every_scope() -> list[str]:
    return list(Scope.values)


class ApiKey(Entity):
    """`spend_cap` is wei in a calendar month of UTC, 0 for none; limits are for a minute that
    begins with a request.

    A limit that is null is the house's.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_keys"
    )
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=12)
    secret_sha256 = models.CharField(max_length=64, unique=True)
    scopes = ArrayField(
        models.CharField(max_length=5, choices=Scope.choices), default=every_scope, size=4
    )
    spend_cap = WeiField(default=0)
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    tokens_per_minute = models.PositiveIntegerField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(spend_cap__gte=0),
                name="accounts_apikey_cap_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(scopes__contained_by=list(Scope.values)),
                name="accounts_apikey_known_scopes",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def opens(self, scope: Scope) -> bool:
        return scope.value in self.scopes

    @property
    def scope_words(self) -> str:
        return ", ".join(scope for scope in Scope.values if scope in self.scopes)


class KeySpending(models.Model):
    """Wei that a key spent, or holds, in the month that begins on `month`."""

    key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, related_name="spending")
    month = models.DateField()
    amount = WeiField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["key", "month"], name="accounts_keyspending_one"),
            models.CheckConstraint(
                condition=Q(amount__gte=0), name="accounts_keyspending_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.key_id} {self.month:%Y-%m}"
