from django.db import models
from django.utils import timezone


class Blob(models.Model):
    """A content-addressed file in the object store. The name is the hash, so it never changes."""

    sha256 = models.CharField(primary_key=True, max_length=64)
    size = models.BigIntegerField()
    media_type = models.CharField(max_length=100)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.sha256

    @property
    def path(self) -> str:
        """The blob's name in the object store, fanned out over 256 folders."""
        return f"sha256/{self.sha256[:2]}/{self.sha256}"
