"""Blocks that were read and that a reorganisation took away, so that their hash is still known."""

from django.db import models

from accounts.models.base import Entity


class GoneBlock(Entity):
    """Its logs went with it; only the hash stays, for whoever looks it up."""

    chain_id = models.PositiveBigIntegerField()
    number = models.PositiveBigIntegerField()
    hash = models.CharField(max_length=66)
    gone_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["chain_id", "hash"], name="ledger_gone_block_once")
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.hash}"
