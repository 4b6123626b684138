"""Amounts that people type, in OPEN."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator

from accounts.ids import uuid7
from accounts.models import User
from ledger.errors import InvalidAmount
from ledger.models import PayoutChoice
from ledger.words import parse_open


class OpenField(forms.CharField):
    """A positive amount of OPEN as text; cleans to wei."""

    def __init__(self, **options: Any) -> None:
        options.setdefault(
            "widget", forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"})
        )
        super().__init__(max_length=80, **options)

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        try:
            return parse_open(text)
        except InvalidAmount as error:
            raise forms.ValidationError(error.message, code=error.code) from error


class LedgerForm(forms.Form):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"label_suffix": ""} | options)

    @property
    def first_error(self) -> str:
        """One sentence for a form that did not validate."""
        for errors in self.errors.values():
            return str(errors[0])
        return ""


class BudgetForm(LedgerForm):
    """How much to spend in a month, and whether more is refused."""

    limit = OpenField(label="At most in a month, in OPEN")
    hard_stop = forms.BooleanField(
        label="Refuse what could go over it",
        required=False,
        help_text="Otherwise you are only told at 50, 80 and 100 %.",
    )


class TopUpForm(LedgerForm):
    """A rule that makes one's own earnings spendable."""

    below = OpenField(label="When my balance falls below, in OPEN")
    amount = OpenField(label="make this much of my earnings spendable, in OPEN")
    monthly_limit = OpenField(label="at most in a month, in OPEN")
    is_on = forms.BooleanField(label="Do this from now on", required=False)


class AmountForm(LedgerForm):
    """An amount, and a key of the request's own so that sending it twice acts once."""

    amount = OpenField(label="Amount in OPEN")
    key = forms.UUIDField(widget=forms.HiddenInput, initial=uuid7)


class PayoutForm(LedgerForm):
    """How a person wants to be paid; `shown_fee` is the wei that the page named."""

    claims = forms.ChoiceField(
        label="Claims", choices=PayoutChoice.Claims.choices, widget=forms.RadioSelect
    )
    push = forms.BooleanField(
        label="Send small earnings to my wallet by themselves", required=False
    )
    shown_fee = forms.IntegerField(widget=forms.HiddenInput, min_value=0)


class RelayForm(LedgerForm):
    """The wei that the button for a relayed claim named."""

    shown_fee = forms.IntegerField(widget=forms.HiddenInput, min_value=0, required=False)


class WithdrawalForm(AmountForm):
    """How much of what goes to which linked wallet."""

    source = forms.ChoiceField(
        label="From", choices=[("USER", "What I can spend"), ("EARNINGS", "My earnings")]
    )
    address = forms.ChoiceField(label="To my wallet")
    field_order = ("amount", "source", "address", "key")

    def __init__(self, *args: Any, addresses: Sequence[str], **options: Any) -> None:
        super().__init__(*args, auto_id="withdraw_%s", **options)
        choices: Any = self.fields["address"]
        choices.choices = [(one, f"{one[:10]}…{one[-8:]}") for one in addresses]


class PoolSlashForm(LedgerForm):
    """Which stake, how much of it, and what shows it."""

    address = forms.ChoiceField(label="Whose stake")
    share = forms.DecimalField(
        label="Share of the stake, in %",
        min_value=Decimal("0.01"),
        decimal_places=2,
        max_digits=5,
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )
    words = forms.CharField(
        label="Evidence",
        widget=forms.Textarea(attrs={"rows": 6}),
        max_length=4_000,
        help_text="What shows it. The staker and everybody else read it, under your name; its "
        "hash goes to the chain and it can never be changed.",
    )

    def __init__(self, *args: Any, addresses: Sequence[str], limit: int, **options: Any) -> None:
        super().__init__(*args, **options)
        choices: Any = self.fields["address"]
        choices.choices = [(one, one) for one in addresses]
        share: Any = self.fields["share"]
        share.validators.append(MaxValueValidator(Decimal(limit) / 100))
        share.help_text = f"At most {limit / 100:g} % at once; it is held from the proposal on."

    def clean_share(self) -> int:
        """Basis points."""
        return int(self.cleaned_data["share"] * 100)


class PersonField(forms.CharField):
    """A person by their handle; cleans to the User."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=60, **{"label": "To whom, by handle"} | options)

    def clean(self, value: Any) -> Any:
        handle = super().clean(value).removeprefix("@")
        found = User.objects.filter(
            handle__iexact=handle, kind=User.Kind.PERSON, is_active=True
        ).first()
        if found is None:
            raise forms.ValidationError("Nobody here has this handle; look at their page.")
        return found


class RefundForm(LedgerForm):
    """Which completion's fee is given back, and why; also that of an embedding or a pin."""

    completion = forms.UUIDField(
        label="Completion",
        help_text="Its id stands on the receipt. An embedding's or a pin's will do as well.",
    )
    reason = forms.CharField(
        label="Why",
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="The payer reads it, and it is kept in the audit trail with your name.",
    )


class PayOutForm(LedgerForm):
    """An amount out of an account that somebody keeps, to a person, with a reason."""

    amount = OpenField(label="Amount in OPEN")
    to = PersonField(help_text="It is added to their spendable balance.")
    reason = forms.CharField(
        label="What for", max_length=500, help_text="It is kept in the audit trail."
    )
    key = forms.UUIDField(widget=forms.HiddenInput, initial=uuid7)


class AssignForm(LedgerForm):
    """Whose a deposit is, and how that was found out."""

    to = PersonField()
    reason = forms.CharField(label="How you know", max_length=500)
