"""Signing up twice at once, as a double click does."""

from __future__ import annotations

from typing import Any

from allauth.account.forms import SignupForm
from django.db import IntegrityError, transaction
from django.http import HttpRequest

from accounts.models import User


class SignUpForm(SignupForm):
    def try_save(self, request: HttpRequest) -> Any:
        """Who comes second is answered as if the account had been there before."""
        try:
            with transaction.atomic():
                return super().try_save(request)
        except IntegrityError:
            if not User.objects.filter(email__iexact=self.cleaned_data["email"]).exists():
                raise
        self.account_already_exists = True
        return super().try_save(request)
