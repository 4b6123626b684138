"""For those who run the house: the engines' page, and the figures that Prometheus reads."""

from __future__ import annotations

import hmac

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.models import User
from serving import residency
from serving.metrics import exposition
from serving.models import Pin


@login_required
@require_safe
def engines(request: HttpRequest) -> HttpResponse:
    """Which adapter is on which worker, and how the engines do."""
    if not _is_staff(request):
        raise PermissionDenied
    context = {
        "engines": residency.live_engines(timezone.now()),
        "pins": Pin.objects.current().select_related("deployment__base_model", "payer"),
    }
    return render(request, "serving/engines.html", context)


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """For staff, and for whoever sends METRICS_TOKEN as a bearer token."""
    if not (_is_staff(request) or _has_token(request)):
        response = HttpResponse("Send METRICS_TOKEN as a bearer token.\n", status=401)
        response["WWW-Authenticate"] = "Bearer"
        return response
    text = exposition(timezone.now())
    return HttpResponse(text, content_type="text/plain; version=0.0.4; charset=utf-8")


def _is_staff(request: HttpRequest) -> bool:
    return isinstance(request.user, User) and request.user.is_staff


def _has_token(request: HttpRequest) -> bool:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    wanted = settings.METRICS_TOKEN.encode()
    if not wanted or scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(token.strip().encode(), wanted)
