"""People and their wallets."""

from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models.base import Entity

# These stand for pages of the product under /people/.
RESERVED_HANDLES = frozenset({"id", "me", "sign-in"})


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str | None, password: str | None = None, **extra: Any) -> "User":
        user = self.model(email=self.normalize_email(email) or None, **extra)
        if not user.handle:
            user.handle = self.free_handle((email or "person").split("@")[0])
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **extra: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **extra)

    def free_handle(self, wish: str) -> str:
        """Return a handle made from `wish` that nobody has yet."""
        from django.utils.text import slugify

        stem = slugify(wish)[:40] or "person"
        handle, number = stem, 1
        while handle in RESERVED_HANDLES or self.filter(handle=handle).exists():
            number += 1
            handle = f"{stem}-{number}"
        return handle

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email__iexact=username)


class UserKind(models.TextChoices):
    PERSON = "PERSON", "Person"
    UNCLAIMED = "UNCLAIMED", "Unclaimed contributor"


class User(AbstractBaseUser, PermissionsMixin):
    """A person, or a contributor whom a bulk import named and who has no login yet."""

    Kind = UserKind

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.EmailField(null=True, blank=True)
    handle = models.SlugField(max_length=100, unique=True)
    display_name = models.CharField(max_length=120, blank=True, default="")
    kind = models.CharField(max_length=10, choices=UserKind.choices, default=UserKind.PERSON)
    # Whom an import means by a name: hash of the import's namespace and the name.
    name_key = models.CharField(
        max_length=64, null=True, blank=True, unique=True, editable=False, default=None
    )
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    date_joined = models.DateTimeField(default=timezone.now)

    objects = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        constraints = [
            models.UniqueConstraint(
                Lower("email"),
                name="user_email_unique",
                violation_error_message="An account with this e-mail address exists.",
            ),
            models.CheckConstraint(
                condition=models.Q(kind="UNCLAIMED") | models.Q(name_key__isnull=True),
                name="user_name_key_of_unclaimed",
            ),
            models.CheckConstraint(
                condition=models.Q(kind="UNCLAIMED")
                | models.Q(email__isnull=False)
                | models.Q(password__startswith="!"),
                name="user_person_can_sign_in",
            ),
        ]

    def __str__(self) -> str:
        return self.display_name or self.handle

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self.handle:
            self.handle = User.objects.free_handle((self.email or "person").split("@")[0])
        super().save(*args, **kwargs)


class Wallet(Entity):
    """An address on the chain that a user has proven to hold. Addresses are EIP-55 checksummed."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="wallets")
    address = models.CharField(max_length=42)
    is_primary = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(Lower("address"), name="wallet_address_unique"),
            models.UniqueConstraint(
                fields=["user"],
                condition=models.Q(is_primary=True),
                name="wallet_one_primary_per_user",
            ),
        ]

    def __str__(self) -> str:
        return self.address
