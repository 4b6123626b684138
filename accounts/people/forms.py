from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.core.validators import RegexValidator

from accounts.amounts import open_text, parse_open
from accounts.api_keys import Limits
from accounts.models import ApiKey, Scope


class ProfileForm(forms.Form):
    handle = forms.CharField(
        min_length=3,
        max_length=40,
        required=False,
        strip=True,
        validators=[
            RegexValidator(
                r"^[a-z0-9]+(-[a-z0-9]+)*\Z", "Use small letters, digits and single hyphens."
            )
        ],
        help_text="Your public page has this name; links to the old one stop working.",
    )
    display_name = forms.CharField(
        max_length=120,
        required=False,
        strip=True,
        help_text="Shown beside what you contribute. Empty: your handle is shown.",
    )


class CapField(forms.CharField):
    """OPEN a month as text, cleaned to wei; empty is 0, no cap."""

    def clean(self, value: Any) -> int:
        text = str(super().clean(value) or "").strip()
        if not text:
            return 0
        try:
            return parse_open(text)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error


class KeyLimitsForm(forms.Form):
    """What a key may spend and ask for."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"label_suffix": ""} | options)

    spend_cap = CapField(
        label="At most in a month, in OPEN",
        required=False,
        max_length=80,
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
        help_text="Empty: as much as your balance carries. A running one counts whole.",
    )
    requests_per_minute = forms.IntegerField(
        label="Requests in a minute",
        required=False,
        min_value=1,
        max_value=1_000_000,
        help_text="Empty: the limit of this site.",
    )
    tokens_per_minute = forms.IntegerField(
        label="Tokens in a minute",
        required=False,
        min_value=1,
        max_value=1_000_000_000,
        help_text="Read and written ones together. Empty: the limit of this site.",
    )

    @classmethod
    def of(cls, key: ApiKey) -> KeyLimitsForm:
        return cls(
            initial={
                "spend_cap": open_text(key.spend_cap) if key.spend_cap else "",
                "requests_per_minute": key.requests_per_minute,
                "tokens_per_minute": key.tokens_per_minute,
            }
        )

    def limits(self) -> Limits:
        return Limits(
            spend_cap=self.cleaned_data["spend_cap"],
            requests_per_minute=self.cleaned_data["requests_per_minute"],
            tokens_per_minute=self.cleaned_data["tokens_per_minute"],
        )


class ApiKeyForm(KeyLimitsForm):
    field_order = ["name", "days", "scopes"]
    LIFETIMES = [("30", "30 days"), ("90", "90 days"), ("365", "One year"), ("", "Does not expire")]

    name = forms.CharField(
        max_length=80,
        strip=True,
        help_text="For you alone, so that you know it again: for example “laptop”.",
    )
    days = forms.ChoiceField(label="Expires after", choices=LIFETIMES, required=False, initial="90")

    scopes = forms.TypedMultipleChoiceField(
        label="Opens",
        choices=[(scope.value, f"{scope.value}: {scope.label}") for scope in Scope],
        coerce=Scope,
        widget=forms.CheckboxSelectMultiple,
        initial=[Scope.ASK.value, Scope.READ.value],
        error_messages={"required": "Choose at least one thing that the key opens."},
    )

    def expires_at(self, at: datetime) -> datetime | None:
        days = self.cleaned_data["days"]
        return at + timedelta(days=int(days)) if days else None
