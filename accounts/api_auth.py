"""Bearer keys for the API, each for what its scopes open.

Reading asks for READ, a change for WRITE, and whatever is carried out once (`idempotent`) for
MONEY.
"""

from typing import Any

from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

from accounts import api_keys
from accounts.models import ApiKey, Scope, User


class ApiKeyAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        scheme, _, secret = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            return None
        key = api_keys.authenticate(secret.strip(), at=timezone.now())
        if key is None:
            raise AuthenticationFailed("This API key is unknown, expired or revoked.")
        needed = _scope_of(request)
        if not key.opens(needed):
            raise PermissionDenied(
                f"This key has no scope {needed.value} ({needed.label}). Make one that has it on "
                "the page of your keys (/people/me/keys/).",
                code="scope_missing",
            )
        return key.user, key

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def _scope_of(request: Request) -> Scope:
    if request.method in SAFE_METHODS:
        return Scope.READ
    view: Any = request.parser_context["view"]
    handler = getattr(view, (request.method or "").lower(), None)
    return Scope.MONEY if getattr(handler, "moves_money", False) else Scope.WRITE


class ApiKeyScheme(OpenApiAuthenticationExtension):
    """Tells readers of the schema how a key is sent."""

    target_class = "accounts.api_auth.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}
