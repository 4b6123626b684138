"""The switch of retrieval on a deployment's page."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.http import require_POST

from accounts.models import User
from serving.errors import Refusal
from serving.models import Deployment
from serving.services import retrieval as service


@login_required
@require_POST
def retrieval(request: HttpRequest, name: str) -> HttpResponse:
    """`on` is 1 or 0."""
    assert isinstance(request.user, User)  # signed in
    visible = Deployment.objects.visible_to(request.user).with_parts()
    found = get_object_or_404(visible, name=name)
    switch = service.switch_on if request.POST.get("on") == "1" else service.switch_off
    try:
        switch(deployment=found, acting_user=request.user, at=timezone.now())
    except Refusal as refusal:
        messages.error(request, refusal.message)
    return redirect(f"{found.get_absolute_url()}#retrieval")
