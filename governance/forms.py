"""What a holder fills in. Every form ends in calldata, so each says what the contract would."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from governance.models import Vote
from governance.selectors import current_split
from governance.words import PART_WORDS
from ledger.chain.addresses import ZERO_ADDRESS, to_checksum
from ledger.errors import InvalidAmount
from ledger.splits import BASIS_POINTS
from ledger.words import parse_open

TEXT_LIMIT = 10_000


class AmountField(forms.CharField):
    """An amount of OPEN or GOPEN; cleans to wei."""

    def __init__(self, **options: Any) -> None:
        widget = forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"})
        super().__init__(widget=widget, max_length=90, **options)

    def clean(self, value: Any) -> int:
        text = super().clean(value)
        try:
            return parse_open(text)
        except InvalidAmount as error:
            raise ValidationError(error.message, code=error.code) from error


class AddressField(forms.CharField):
    """An address of the chain; cleans to its checksummed spelling, or ""."""

    def __init__(self, **options: Any) -> None:
        widget = forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"})
        super().__init__(widget=widget, max_length=42, **options)

    def clean(self, value: Any) -> str:
        text = super().clean(value).strip()
        if not text:
            return ""
        try:
            address = to_checksum(text)
        except ValueError as error:
            raise ValidationError(str(error), code="invalid_address") from error
        if address == ZERO_ADDRESS:
            raise ValidationError("Votes given to the zero address are lost.", code="zero_address")
        return address


class WrapForm(forms.Form):
    amount = AmountField(label="Amount in OPEN", initial="10")
    delegate = AddressField(
        label="Let this address vote", required=False,
        help_text="Your own to vote yourself; empty to leave your votes where they are.",
    )  # fmt: skip


class UnwrapForm(forms.Form):
    amount = AmountField(label="Amount in GOPEN")


class DelegateForm(forms.Form):
    delegate = AddressField(label="Let this address vote")


class VoteForm(forms.Form):
    support = forms.TypedChoiceField(
        label="Your vote", choices=[(1, "For"), (0, "Against"), (2, "Abstain")], coerce=int,
        widget=forms.RadioSelect, initial=1,
    )  # fmt: skip
    reason = forms.CharField(
        label="Reason", required=False, max_length=1_000, widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Optional. It stands on the chain for ever, and costs gas by the letter.",
    )  # fmt: skip

    def clean_support(self) -> int:
        return int(Vote.Support(self.cleaned_data["support"]))


class TextProposalForm(forms.Form):
    title = forms.CharField(max_length=150)
    text = forms.CharField(
        label="What shall be decided, and why", max_length=TEXT_LIMIT, strip=True,
        widget=forms.Textarea(attrs={"rows": 8}),
        help_text="Markdown. It is written to the chain as it stands, and cannot be changed.",
    )  # fmt: skip

    @property
    def description(self) -> str:
        """What the Governor keeps: the title as a heading, then the text."""
        return f"# {self.cleaned_data['title']}\n\n{self.cleaned_data['text']}"


class SplitProposalForm(TextProposalForm):
    """Four percentages that make a whole."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for part in current_split().parts:
            self.fields[part.kind] = forms.DecimalField(
                label=f"{PART_WORDS[part.kind]}, %", min_value=Decimal(0), max_value=Decimal(100),
                decimal_places=2, max_digits=5,
                initial=f"{(Decimal(part.basis_points) / 100).normalize():f}",
                widget=forms.NumberInput(attrs={"step": "0.01"}),
            )  # fmt: skip
        self.order_fields([*PART_WORDS, "title", "text"])

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if not all(name in cleaned for name in PART_WORDS):
            return cleaned
        whole = sum(self.split.values())
        if whole != BASIS_POINTS:
            raise ValidationError(
                f"The four parts must make 100 %, and make {Decimal(whole) / 100:f} %.",
                code="split_not_whole",
            )
        if all(self.split[part.kind] == part.basis_points for part in current_split().parts):
            raise ValidationError("This is the split in force already.", code="unchanged")
        return cleaned

    @property
    def split(self) -> dict[str, int]:
        """Basis points by receiver."""
        return {name: int(self.cleaned_data[name] * 100) for name in PART_WORDS}
