"""For staff: servers elsewhere that answer for a base, how they are, and what they hold."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import User
from accounts.workers import live_workers
from serving.errors import Refusal
from serving.external.routing import QUEUE
from serving.forms_replicas import ReplicaChangeForm, ReplicaForm
from serving.models import Replica
from serving.services import replicas as service


@login_required
@require_safe
def replicas(request: HttpRequest) -> HttpResponse:
    _staff(request)
    found = Replica.objects.select_related("base_model").prefetch_related("adapters__deployment")
    has_worker = live_workers(queue=QUEUE, at=timezone.now()).exists()
    return render(request, "serving/replicas.html", {"replicas": found, "has_worker": has_worker})


@sensitive_post_parameters("key")
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    user = _staff(request)
    form = ReplicaForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            service.register_replica(**form.cleaned_data, acting_user=user, at=timezone.now())
        except Refusal as refusal:
            form.add_error(None, refusal.message)
        else:
            return redirect("serving:replicas")
    return render(request, "serving/replica_new.html", {"form": form})


@sensitive_post_parameters("key")
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def replica(request: HttpRequest, name: str) -> HttpResponse:
    """One server: switch it on and off, give it another key."""
    user = _staff(request)
    found = get_object_or_404(Replica.objects.select_related("base_model"), name=name)
    form = ReplicaChangeForm(request.POST or None, initial={"is_enabled": found.is_enabled})
    if request.method == "POST" and form.is_valid():
        service.change_replica(
            replica=found,
            is_enabled=form.cleaned_data["is_enabled"],
            key=form.cleaned_data["key"] or None,
            acting_user=user,
            at=timezone.now(),
        )
        return redirect("serving:replicas")
    return render(request, "serving/replica.html", {"form": form, "replica": found})


@login_required
@require_POST
def remove(request: HttpRequest, name: str) -> HttpResponse:
    user = _staff(request)
    found = get_object_or_404(Replica, name=name)
    service.remove_replica(replica=found, acting_user=user, at=timezone.now())
    return redirect("serving:replicas")


def _staff(request: HttpRequest) -> User:
    if not (isinstance(request.user, User) and request.user.is_staff):
        raise PermissionDenied
    return request.user
