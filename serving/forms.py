"""Forms of deployments. People write OPEN per 1,000 tokens, the database keeps wei per token."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from accounts.models import User
from ledger.errors import InvalidAmount
from ledger.words import open_text, parse_open
from modelfactory.limits import HIGHEST_PRICE
from modelfactory.models import BaseModel, Model
from serving.models import Deployment

TOKENS = 1_000


def price_text(wei_per_token: int) -> str:
    """Wei per token -> OPEN per 1,000 tokens, exactly."""
    return open_text(wei_per_token * TOKENS)


class PriceField(forms.CharField):
    """OPEN per 1,000 tokens in, wei per token out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=80, **options)
        self.widget.attrs.update({"inputmode": "decimal", "autocomplete": "off"})

    def clean(self, value: Any) -> int:
        text = str(super().clean(value)).strip()
        if not text.strip("0."):
            return 0
        try:
            wei = parse_open(text)
        except InvalidAmount as error:
            raise ValidationError(error.message) from error
        if wei % TOKENS:
            raise ValidationError("Write at most 15 digits after the point.")
        if wei // TOKENS > HIGHEST_PRICE:
            raise ValidationError("A price is at most 1,000 OPEN per 1,000 tokens.")
        return wei // TOKENS


class PriceForm(forms.Form):
    input_price = PriceField(
        label="OPEN per 1,000 tokens read", help_text="For the question. 0 reads for nothing."
    )
    output_price = PriceField(
        label="OPEN per 1,000 tokens written",
        help_text="For the answer. The fee is shared with those whose data shaped it.",
    )

    @classmethod
    def of(cls, deployment: Deployment) -> PriceForm:
        return cls(
            initial={
                "input_price": price_text(deployment.input_price),
                "output_price": price_text(deployment.output_price),
            }
        )


class DeployForm(PriceForm):
    """`what` is "model:<slug>" or "base:<slug>", of what this person may deploy."""

    what = forms.ChoiceField(label="What to deploy")
    field_order = ["what", "input_price", "output_price"]

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        models = Model.objects.exclude(state=Model.State.TAKEN_DOWN)
        if not user.is_staff:
            models = models.filter(owner=user)
        self._models = {f"model:{one.slug}": one for one in models.select_related("base_model")}
        bases = BaseModel.objects.ready() if user.is_staff else BaseModel.objects.none()
        self._bases = {f"base:{one.slug}": one for one in bases}
        field = self.fields["what"]
        assert isinstance(field, forms.ChoiceField)
        groups = [
            ("Models", [(key, model.name) for key, model in self._models.items()]),
            ("Base models alone", [(key, base.name) for key, base in self._bases.items()]),
        ]
        field.choices = [(label, choices) for label, choices in groups if choices]

    @property
    def has_choices(self) -> bool:
        return bool(self._models or self._bases)

    def chosen(self) -> dict[str, Any]:
        """What `deploy` takes, of a form that is valid."""
        what = self.cleaned_data["what"]
        return {
            "model": self._models.get(what),
            "base_model": self._bases.get(what),
            "input_price": self.cleaned_data["input_price"],
            "output_price": self.cleaned_data["output_price"],
        }
