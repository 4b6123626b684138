"""Pinning a model: what it costs for how long, and asking for it."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from accounts.models import User
from ledger.words import open_text
from serving.errors import Refusal
from serving.models import Deployment, Pin
from serving.services import pins as service

OFFERED = (1, 7, 30)


class PinForm(forms.Form):
    days = forms.TypedChoiceField(coerce=int, widget=forms.RadioSelect, label="For how long")

    def __init__(self, *args: object, deployment: Deployment, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        field = self.fields["days"]
        assert isinstance(field, forms.TypedChoiceField)
        quotes = [service.quote_pin(deployment=deployment, days=days) for days in OFFERED]
        field.choices = [
            (one.days, f"{one.days} day{'s' if one.days > 1 else ''}: {open_text(one.fee)} OPEN")
            for one in quotes
        ]
        field.initial = OFFERED[0]


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def pin(request: HttpRequest, name: str) -> HttpResponse:
    assert isinstance(request.user, User)  # signed in
    visible = Deployment.objects.visible_to(request.user).with_parts()
    found = get_object_or_404(visible.exclude(model=None), name=name)
    current = Pin.objects.current().filter(deployment=found).first()
    form = PinForm(request.POST or None, deployment=found)
    if request.method == "POST" and form.is_valid():
        try:
            service.request_pin(
                deployment=found,
                days=form.cleaned_data["days"],
                acting_user=request.user,
                at=timezone.now(),
            )
        except Refusal as refusal:
            form.add_error(None, refusal.message)
        else:
            messages.success(request, "Its price is held; it is charged once a worker has it.")
            return redirect("serving:pin", name=found.name)
    past = Pin.objects.filter(deployment=found, payer=request.user)[:20]
    context = {"form": form, "deployment": found, "current": current, "past": past}
    return render(request, "serving/pin.html", context)
