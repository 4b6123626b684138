"""Signing in with a wallet and looking after one's wallets.

The endpoints for the browser's wallet speak JSON: {"error": {"code", "message"}} where something
is wrong, always with a next step in the message.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

from allauth.account.app_settings import EmailVerificationMethod
from allauth.account.internal.flows.login import record_authentication
from allauth.account.utils import perform_login
from allauth.core import ratelimit
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_GET, require_POST

from accounts import siwe
from accounts.models import User, Wallet
from accounts.models.challenge import SignInChallenge
from accounts.people.access import signed_in_user
from accounts.services import wallets
from accounts.services.wallets import WalletError
from accounts.siwe import SignInError

SESSION_KEY = "wallet_challenge"
MAX_BODY = 10_000
Purpose = SignInChallenge.Purpose


class BadRequestError(Exception):
    """The body is not what the wallet script sends."""


def answers_json(
    view: Callable[[HttpRequest], dict[str, Any]],
) -> Callable[[HttpRequest], JsonResponse]:
    """Translate what can go wrong into one shape; every call counts against the rate limit."""

    def wrapped(request: HttpRequest) -> JsonResponse:
        if not ratelimit.consume(request, action="wallet_sign_in"):
            return _error(429, "too_many", "Too many attempts. Wait a minute, then try again.")
        try:
            return JsonResponse(view(request))
        except BadRequestError as error:
            return _error(400, "bad_request", str(error))
        except SignInError as error:
            return _error(400, error.code, str(error), chain_id=settings.CHAIN_ID)
        except WalletError as error:
            return _error(409, "wallet", str(error))

    return wrapped


def _error(status: int, code: str, message: str, **more: Any) -> JsonResponse:
    return JsonResponse({"error": {"code": code, "message": message, **more}}, status=status)


def _body(request: HttpRequest, **members: type) -> dict[str, Any]:
    """The named members of the JSON body, each of its type. Raises BadRequestError."""
    raw = request.body
    try:
        body = json.loads(raw) if len(raw) <= MAX_BODY else None
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise BadRequestError("Send a small JSON object.")
    for name, kind in members.items():
        if not isinstance(body.get(name), kind) or isinstance(body[name], bool):
            raise BadRequestError(f"{name} is missing or not of type {kind.__name__}.")
    return body


def _challenge(request: HttpRequest, purpose: Purpose, user: User | None) -> dict[str, Any]:
    body = _body(request, address=str, chain_id=int)
    challenge = siwe.issue(
        address=body["address"],
        chain_id=body["chain_id"],
        domain=request.get_host(),
        purpose=purpose,
        user=user,
        at=timezone.now(),
    )
    # The signature counts only in the browser that asked for the text.
    request.session[SESSION_KEY] = str(challenge.pk)
    return {"challenge": str(challenge.pk), "text": challenge.text, "address": challenge.address}


def _spend(request: HttpRequest, purpose: Purpose, user: User | None) -> tuple[str, dict[str, Any]]:
    body = _body(request, challenge=str, signature=str)
    asked = request.session.pop(SESSION_KEY, None)
    if asked is None or asked != body["challenge"]:
        raise SignInError("wrong_session", "This browser did not ask for that text. Start again.")
    address = siwe.spend(
        challenge_id=UUID(asked),
        signature=body["signature"],
        domain=request.get_host(),
        purpose=purpose,
        user=user,
        at=timezone.now(),
    )
    return address, body


@require_POST
@answers_json
def sign_in_challenge(request: HttpRequest) -> dict[str, Any]:
    return _challenge(request, Purpose.SIGN_IN, None)


@require_POST
@answers_json
def sign_in(request: HttpRequest) -> dict[str, Any]:
    """Let the wallet's person in; a second factor, where there is one, is still asked for."""
    address, body = _spend(request, Purpose.SIGN_IN, None)
    user, _ = wallets.sign_in_or_join(address=address, at=timezone.now())
    record_authentication(request, user, method="wallet", address=address)
    answer = perform_login(
        request,
        user,
        email_verification=EmailVerificationMethod.NONE,
        redirect_url=_next(request, body.get("next")),
    )
    return {"next": answer["Location"]}


def _next(request: HttpRequest, wish: object) -> str:
    safe = isinstance(wish, str) and url_has_allowed_host_and_scheme(
        wish, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return str(wish) if safe and wish else reverse(settings.LOGIN_REDIRECT_URL)


@require_POST
@answers_json
def link_challenge(request: HttpRequest) -> dict[str, Any]:
    return _challenge(request, Purpose.LINK, _person_or_error(request))


@require_POST
@answers_json
def link(request: HttpRequest) -> dict[str, Any]:
    user = _person_or_error(request)
    address, _ = _spend(request, Purpose.LINK, user)
    wallets.link_wallet(user=user, address=address, acting_user=user, at=timezone.now())
    messages.success(request, f"The wallet {address} is linked to your account.")
    return {"next": reverse("people:wallets")}


def _person_or_error(request: HttpRequest) -> User:
    if not isinstance(request.user, User):
        raise SignInError("signed_out", "You are signed out. Sign in, then link your wallet.")
    return request.user


@login_required
@require_GET
def my_wallets(request: HttpRequest) -> HttpResponse:
    rows = signed_in_user(request).wallets.order_by("-is_primary", "created_at")
    return render(
        request,
        "people/wallets.html",
        {"wallets": rows, "chain_id": settings.CHAIN_ID, "tab": "wallets"},
    )


@login_required
@require_POST
def unlink(request: HttpRequest, pk: UUID) -> HttpResponse:
    user = signed_in_user(request)
    wallet = get_object_or_404(Wallet, pk=pk, user=user)
    try:
        wallets.unlink_wallet(wallet=wallet, acting_user=user, at=timezone.now())
        messages.success(request, f"The wallet {wallet.address} is no longer linked.")
    except WalletError as error:
        messages.error(request, str(error))
    return redirect("people:wallets")


@login_required
@require_POST
def make_primary(request: HttpRequest, pk: UUID) -> HttpResponse:
    user = signed_in_user(request)
    wallet = get_object_or_404(Wallet, pk=pk, user=user)
    wallets.make_primary(wallet=wallet, acting_user=user, at=timezone.now())
    messages.success(request, f"You are paid to {wallet.address} from now on.")
    return redirect("people:wallets")
