"""People and their wallets."""

from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models
from django.db.models.functions import Lower, Upper
from django.utils import timezone
from django.utils.text import slugify

from accounts.ids import uuid7
from accounts.models.base import Entity
from accounts.naming import make_with_free_name, numbered, random_names

# These stand for pages of the product under /people/.
RESERVED_HANDLES = frozenset({"id", "me", "sign-in"})


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str | None, password: str | None = None, **extra: Any) -> "User":
        user = self.model(email=self.normalize_email(email) or None, **extra)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **extra: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **extra)

    def free_handle(self, wish: str) -> str:
        """Return a handle made from `wish` that nobody has yet."""
        stem = slugify(wish)[:40] or "person"
        return next(name for name in numbered(stem) if not self.is_handle_taken(name))

    def is_handle_taken(self, handle: str) -> bool:
        return handle in RESERVED_HANDLES or self.filter(handle=handle).exists()

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
        """A person without a handle gets one that tells nothing of their e-mail address."""

        def save_as(handle: str) -> None:
            self.handle = handle
            super(User, self).save(*args, **kwargs)

        if self.handle:
            super().save(*args, **kwargs)
            return
        make_with_free_name(
            random_names("person"), is_taken=User.objects.is_handle_taken, make=save_as
        )


class Wallet(Entity):
    """An address on the chain that a user has proven to hold. Addresses are EIP-55 checksummed."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="wallets")
    address = models.CharField(max_length=42)
    is_primary = models.BooleanField(default=False)

    class Meta:
        indexes = [
            # As it is spelt everywhere, and however somebody else spells it (`iexact`).
            models.Index(fields=["address"], name="wallet_by_address"),
            models.Index(Upper("address"), name="wallet_by_any_case"),
        ]
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
