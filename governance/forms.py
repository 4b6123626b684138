"""What a holder fills in. Every form ends in calldata, so each says what the contract would."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError

from accounts.amounts import shifted
from governance.models import Vote
from governance.registry import GOVERNED, Governed, Unit
from governance.selectors import Parameters, current_parameters, current_split
from governance.words import PART_WORDS, show_governed
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


class ValuesProposalForm(TextProposalForm):
    """Governed numbers, each in its own unit. What is left as it stands is not proposed."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.parameters: Parameters = current_parameters()
        for declared in GOVERNED.values():
            now = self.parameters.governed(declared.key)
            self.fields[field_name(declared.key)] = _number_field(declared, now)
        self.order_fields([*map(field_name, GOVERNED), "title", "text"])

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if not self.errors and not self.changes:
            raise ValidationError(
                "These are the values in force already; change one at least.", code="unchanged"
            )
        return cleaned

    @property
    def changes(self) -> dict[str, tuple[int | None, int]]:
        """Key to (what the chain has, None where it was never set; what it would get)."""
        found = {}
        for key in GOVERNED:
            wanted = self.cleaned_data.get(field_name(key))
            if wanted is not None and wanted != self.parameters.governed(key):
                found[key] = (self.parameters.values.get(key), wanted)
        return found


def field_name(key: str) -> str:
    """The name of a governed value's field."""
    return key.replace(".", "__")


class GovernedField(forms.DecimalField):
    """A governed number as a person types it; cleans to the whole number of the contract."""

    # Decimal digits behind the point that one unit on the page has.
    PLACES: ClassVar[dict[Unit, int]] = {Unit.BASIS_POINTS: 2, Unit.WEI: 18}

    def __init__(self, declared: Governed, **options: Any) -> None:
        self.declared = declared
        self.places = self.PLACES.get(declared.unit, 0)
        super().__init__(decimal_places=self.places, max_digits=78, **options)

    def clean(self, value: Any) -> int | None:
        typed = super().clean(value)
        if typed is None:
            return None
        number = int(shifted(typed, self.places))
        if not self.declared.low <= number <= self.declared.high:
            low = show_governed(self.declared, self.declared.low)
            high = show_governed(self.declared, self.declared.high)
            raise ValidationError(f"It may be {low} to {high}.", code="out_of_bounds")
        return number

    def typed(self, number: int) -> str:
        """The number as it would be typed."""
        text = f"{shifted(Decimal(number), -self.places):f}"
        return text.rstrip("0").rstrip(".") if "." in text else text


TYPED_IN = {Unit.BASIS_POINTS: ", %", Unit.SECONDS: ", seconds", Unit.WEI: ", OPEN", Unit.COUNT: ""}


def _number_field(declared: Governed, now: int) -> GovernedField:
    field = GovernedField(
        declared,
        label=declared.label + TYPED_IN[declared.unit],
        required=False,
        help_text=f"{declared.explains} Now {show_governed(declared, now)}; between "
        f"{show_governed(declared, declared.low)} and {show_governed(declared, declared.high)}.",
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )
    field.initial = field.typed(now)
    return field
