from __future__ import annotations

from datetime import datetime, timedelta

from django import forms
from django.core.validators import RegexValidator


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


class ApiKeyForm(forms.Form):
    LIFETIMES = [("30", "30 days"), ("90", "90 days"), ("365", "One year"), ("", "Does not expire")]

    name = forms.CharField(
        max_length=80,
        strip=True,
        help_text="For you alone, so that you know it again: for example “laptop”.",
    )
    days = forms.ChoiceField(label="Expires after", choices=LIFETIMES, required=False, initial="90")

    def expires_at(self, at: datetime) -> datetime | None:
        days = self.cleaned_data["days"]
        return at + timedelta(days=int(days)) if days else None
