"""A person's public page, and the pages on which they look after their own account."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import api_keys, key_spending
from accounts.models import ApiKey, Notification, User
from accounts.people.access import signed_in_user
from accounts.people.forms import ApiKeyForm, KeyLimitsForm, ProfileForm
from accounts.services import profile

NOTIFICATIONS_PER_PAGE = 30


@require_GET
def person(request: HttpRequest, handle: str) -> HttpResponse:
    """Public: name, since when, wallets. Closed accounts have no page."""
    shown = get_object_or_404(User, handle=handle)
    if shown.kind == User.Kind.PERSON and not shown.is_active:
        raise Http404
    wallets = shown.wallets.order_by("-is_primary", "created_at")
    return render(request, "people/person.html", {"person": shown, "wallets": wallets})


@require_GET
def person_by_id(request: HttpRequest, pk: UUID) -> HttpResponse:
    """For rooms that know only the id."""
    return redirect("people:person", handle=get_object_or_404(User, pk=pk).handle)


@login_required
@require_http_methods(["GET", "POST"])
def me(request: HttpRequest) -> HttpResponse:
    user = signed_in_user(request)
    initial = {"display_name": user.display_name, "handle": user.handle}
    form = ProfileForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            profile.update_profile(
                user=user, acting_user=user, at=timezone.now(), **form.cleaned_data
            )
            messages.success(request, "Your profile was saved.")
            return redirect("people:me")
        except profile.HandleTaken:
            form.add_error("handle", "This handle is taken.")
    return render(request, "people/me.html", {"form": form, "tab": "profile"})


@login_required
@never_cache
@require_http_methods(["GET", "POST"])
def keys(request: HttpRequest) -> HttpResponse:
    """The answer to a POST is the only page that ever shows the new key."""
    user = signed_in_user(request)
    form = ApiKeyForm(request.POST or None)
    secret = ""
    if request.method == "POST" and form.is_valid():
        now = timezone.now()
        _, secret = api_keys.create_key(
            user=user,
            name=form.cleaned_data["name"],
            expires_at=form.expires_at(now),
            scopes=form.cleaned_data["scopes"],
            limits=form.limits(),
            acting_user=user,
            at=now,
        )
        form = ApiKeyForm()
    now = timezone.now()
    shown = list(ApiKey.objects.filter(user=user).order_by("-created_at"))
    spent = key_spending.spent(shown, now)
    context = {
        "form": form,
        "keys": [(key, spent.get(key.pk, 0)) for key in shown],
        "secret": secret,
        "tab": "keys",
        "now": now,
    }
    return render(request, "people/keys.html", context)


@login_required
@never_cache
@require_http_methods(["GET", "POST"])
def key(request: HttpRequest, pk: UUID) -> HttpResponse:
    """What one key opens and has spent, and its limits."""
    user = signed_in_user(request)
    shown = get_object_or_404(ApiKey, pk=pk, user=user)
    form = KeyLimitsForm(request.POST) if request.method == "POST" else KeyLimitsForm.of(shown)
    now = timezone.now()
    if request.method == "POST" and form.is_valid():
        api_keys.limit_key(key=shown, limits=form.limits(), acting_user=user, at=now)
        messages.success(request, f"The limits of “{shown.name}” hold from the next request on.")
        return redirect("people:keys")
    spent = key_spending.spent([shown], now).get(shown.pk, 0)
    context = {"form": form, "key": shown, "spent": spent, "tab": "keys", "now": now}
    return render(request, "people/key.html", context)


@login_required
@require_POST
def revoke_key(request: HttpRequest, pk: UUID) -> HttpResponse:
    user = signed_in_user(request)
    key = get_object_or_404(ApiKey, pk=pk, user=user)
    api_keys.revoke_key(key=key, acting_user=user, at=timezone.now())
    messages.success(request, f"The key “{key.name}” opens nothing from now on.")
    return redirect("people:keys")


@login_required
@require_GET
def notifications(request: HttpRequest) -> HttpResponse:
    rows = Notification.objects.filter(user=signed_in_user(request)).order_by("-at")
    page = Paginator(rows, NOTIFICATIONS_PER_PAGE).get_page(request.GET.get("page"))
    return render(request, "people/notifications.html", {"page": page, "tab": "notifications"})


@login_required
@require_POST
def read_all(request: HttpRequest) -> HttpResponse:
    profile.mark_read(user=signed_in_user(request), at=timezone.now())
    return redirect("people:notifications")


@login_required
@require_POST
def open_notification(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Mark it read and go where it points, within this site."""
    user = signed_in_user(request)
    row = get_object_or_404(Notification, pk=pk, user=user)
    profile.mark_read(user=user, notification=row, at=timezone.now())
    target = row.url
    if not url_has_allowed_host_and_scheme(target, allowed_hosts=None):
        target = reverse("people:notifications")
    return HttpResponseRedirect(target)


@login_required
@never_cache
@require_GET
def export(request: HttpRequest) -> HttpResponse:
    user = signed_in_user(request)
    answer = JsonResponse(
        profile.export(user=user, at=timezone.now()), json_dumps_params={"indent": 2}
    )
    answer["Content-Disposition"] = f'attachment; filename="openledger-{user.handle}.json"'
    return answer
