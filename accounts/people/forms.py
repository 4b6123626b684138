from __future__ import annotations

from datetime import datetime, timedelta

from django import forms


class ProfileForm(forms.Form):
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
