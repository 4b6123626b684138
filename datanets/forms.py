"""Forms of the Datanet pages. What they check is shape; rules live in the services."""

from typing import Any

from django import forms

from accounts.models import User
from datanets.licences import choices as licence_choices
from datanets.licences import choices_derived_from
from datanets.models import (
    Contribution,
    Reason,
    Record,
    ReportReason,
    Role,
    SlashReason,
    Version,
)
from ledger.errors import InvalidAmount
from ledger.words import parse_open

MAX_TAGS = 10


class TagsField(forms.CharField):
    """Words separated by commas, as a list without repetition."""

    def to_python(self, value: Any) -> list[str]:  # type: ignore[override]
        text = super().to_python(value) or ""
        tags = [tag.strip().lower() for tag in text.split(",") if tag.strip()]
        return list(dict.fromkeys(tags))

    def validate(self, value: Any) -> None:
        super().validate(value)
        if len(value) > MAX_TAGS:
            raise forms.ValidationError(f"Use at most {MAX_TAGS} tags.")
        if any(len(tag) > 30 for tag in value):
            raise forms.ValidationError("A tag has at most 30 characters.")

    def run_validators(self, value: Any) -> None:
        return None

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value


class DatanetForm(forms.Form):
    name = forms.CharField(max_length=80, help_text="What the Datanet is about, in a few words.")
    summary = forms.CharField(max_length=200, help_text="One sentence for lists and search.")
    description = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 10}),
        max_length=50_000,
        required=False,
        help_text="Markdown. Where the data comes from, what it is good for, what it is not.",
    )
    rules = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 6}),
        max_length=20_000,
        required=False,
        help_text="Markdown. What a record must be to be accepted.",
    )
    tags = TagsField(required=False, help_text="Separated by commas, ten at most.")
    licence = forms.ChoiceField(
        choices=licence_choices, help_text="Contributions come under this licence or a freer one."
    )


class DeriveForm(DatanetForm):
    """The card of a Datanet from another one's version; only licences that it allows."""

    def __init__(self, *args: Any, version: Version, **options: Any) -> None:
        super().__init__(*args, **options)
        licence = self.fields["licence"]
        assert isinstance(licence, forms.ChoiceField)
        licence.choices = choices_derived_from(version.licence)
        licence.help_text = (
            f"{version.datanet} is under {version.licence}, which allows these for what is "
            "derived. Records that come along keep their own licences."
        )


class ReasonForm(forms.Form):
    """A reason or statement that the people concerned will read."""

    statement = forms.CharField(
        label="Statement", widget=forms.Textarea(attrs={"rows": 3}), max_length=2_000
    )


class ReportForm(forms.Form):
    reason = forms.ChoiceField(label="What is wrong?", choices=ReportReason.choices)
    text = forms.CharField(
        label="Tell staff more",
        widget=forms.Textarea(attrs={"rows": 4}),
        max_length=2_000,
        required=False,
    )


class VerdictForm(forms.Form):
    reason = forms.ChoiceField(choices=[("", "Choose a reason"), *Reason.choices], required=False)
    note = forms.CharField(max_length=500, required=False, label="Note to the contributor")


class StakeForm(forms.Form):
    """What a Datanet asks for with each contribution; nothing at all is an answer too."""

    amount = forms.CharField(
        max_length=80,
        required=False,
        label="Stake on each contribution, in OPEN",
        help_text="Leave it empty to ask for none.",
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )

    def clean_amount(self) -> int:
        text = self.cleaned_data["amount"].strip()
        if not text or not text.strip("0."):
            return 0
        try:
            return parse_open(text)
        except InvalidAmount as error:
            raise forms.ValidationError(error.message, code=error.code) from error


class SlashForm(forms.Form):
    reason = forms.ChoiceField(label="What is wrong with it?", choices=SlashReason.choices)
    evidence = forms.CharField(
        label="Evidence",
        widget=forms.Textarea(attrs={"rows": 6}),
        max_length=4_000,
        help_text="What shows it. The contributor reads it now, everybody once it is executed.",
    )
    records = forms.ModelMultipleChoiceField(
        label="Records that show it",
        queryset=Record.objects.none(),
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Name at least one record."},
    )

    def __init__(self, *args: Any, contribution: Contribution, **options: Any) -> None:
        super().__init__(*args, **options)
        field = self.fields["records"]
        assert isinstance(field, forms.ModelMultipleChoiceField)
        field.queryset = contribution.records.order_by("row")


class AppealForm(forms.Form):
    text = forms.CharField(
        label="Why the slash is wrong, and what shows it",
        widget=forms.Textarea(attrs={"rows": 5}),
        max_length=4_000,
    )


class MemberForm(forms.Form):
    is_by_email = False

    person = forms.CharField(
        max_length=254, label="Person", help_text="A handle or an e-mail address."
    )
    role = forms.ChoiceField(
        choices=[(role.value, role.label) for role in Role if role is not Role.OWNER]
    )

    def clean_person(self) -> User | None:
        """The person; None for an e-mail address that nobody has, which the page never says.

        Handles are public, so that a wrong one may be named.
        """
        text = self.cleaned_data["person"].strip()
        self.is_by_email = "@" in text
        lookup = {"email__iexact": text} if self.is_by_email else {"handle": text}
        user = User.objects.filter(kind=User.Kind.PERSON, is_active=True, **lookup).first()
        if user is None and not self.is_by_email:
            raise forms.ValidationError("Nobody here has this handle.")
        return user


class VersionForm(forms.Form):
    note = forms.CharField(
        max_length=500, required=False, label="What is new", help_text="Shown with the version."
    )
