"""Forms of the wizard and of models. The recipe's form is derived from the dataclass."""

from collections.abc import Sequence
from dataclasses import fields
from decimal import Decimal
from typing import Any

from django import forms

from accounts.amounts import shifted
from accounts.fields import WEI_LIMIT
from datanets.models import Version
from modelfactory.limits import HIGHEST_PRICE
from modelfactory.models import BaseModel, Model
from modelfactory.training.recipe import Recipe, RecipeError

WEI_PER_OPEN = 10**18


class GoalForm(forms.Form):
    name = forms.CharField(max_length=80, label="Name of the model")
    goal = forms.CharField(
        max_length=2_000,
        required=False,
        label="Goal",
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="What should it be better at? It becomes the summary of the model's card.",
    )


class DataForm(forms.Form):
    """Which versions, each once; weights stand beside them as `weight_<id>`."""

    versions = forms.ModelMultipleChoiceField(
        Version.objects.none(),
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one version."},
    )

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = Version.objects.usable_by(user).select_related("datanet")
        self.fields["versions"].queryset = choices  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        weights = []
        for version in cleaned.get("versions", []):
            raw = self.data.get(f"weight_{version.pk}", "1") or "1"
            if not (raw.isascii() and raw.isdigit() and 1 <= int(raw) <= 10):
                raise forms.ValidationError("A weight is a whole number from 1 to 10.")
            weights.append((version, int(raw)))
        cleaned["weighted"] = weights
        return cleaned


class BaseForm(forms.Form):
    base_model = forms.ModelChoiceField(
        BaseModel.objects.none(),
        widget=forms.RadioSelect,
        empty_label=None,
        label="Base model",
        error_messages={"required": "Choose a base model."},
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["base_model"].queryset = BaseModel.objects.ready()  # type: ignore[attr-defined]


class RecipeForm(forms.Form):
    """One form field per recipe setting; `simple` shows only some and keeps the rest."""

    def __init__(self, *args: Any, recipe: Recipe, simple: bool, **kwargs: Any) -> None:
        kwargs["initial"] = recipe.to_json()
        super().__init__(*args, **kwargs)
        self.recipe = recipe
        for setting in fields(Recipe):
            if simple and not setting.metadata["simple"]:
                continue
            self.fields[setting.name] = _form_field(setting)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        try:
            self.parsed = Recipe.from_json({**self.recipe.to_json(), **cleaned})
        except RecipeError as error:
            self.add_error(error.field if error.field in self.fields else None, str(error))
        return cleaned


def _form_field(setting: Any) -> forms.Field:
    meta, default = setting.metadata, setting.default
    common = {"label": meta["label"], "help_text": meta["help"]}
    if meta["choices"]:
        return forms.ChoiceField(choices=[(c, c) for c in meta["choices"]], **common)
    if isinstance(default, bool):
        return forms.BooleanField(required=False, **common)
    bounds = {"min_value": meta["low"], "max_value": meta["high"]}
    if isinstance(default, int):
        return forms.IntegerField(**common, **bounds)
    widget = forms.NumberInput(attrs={"step": "any"})
    return forms.FloatField(**common, **bounds, widget=widget)


class OpenAmountField(forms.DecimalField):
    """An amount of OPEN in the browser, an integer of wei in the house."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_digits=78, decimal_places=18, min_value=0, **kwargs)
        self.widget.attrs["step"] = "any"

    def clean(self, value: Any) -> Any:
        amount = super().clean(value)
        if amount is None:
            return None
        wei = int(shifted(amount, 18))
        if wei >= WEI_LIMIT:
            raise forms.ValidationError("That is more OPEN than there can be.")
        return wei

    def prepare_value(self, value: Any) -> Any:
        """Show wei (an int) as OPEN without an exponent."""
        if not isinstance(value, int):
            return value
        whole, part = divmod(value, WEI_PER_OPEN)
        return f"{whole}.{part:018d}".rstrip("0").rstrip(".")


class MergeForm(GoalForm):
    """Published models of one base, each with a part in percent; empty leaves one out."""

    def __init__(self, *args: Any, models: Sequence[Model], first: Model, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.models = models
        for model in models:
            self.fields[f"part_{model.pk}"] = forms.DecimalField(
                label=f"{model.name} by {model.owner}, %",
                required=False, min_value=Decimal(0), max_value=Decimal(100), decimal_places=2,
                max_digits=5, initial="50" if model == first else None,
                widget=forms.NumberInput(attrs={"step": "0.01"}),
            )  # fmt: skip

    @property
    def parents(self) -> list[tuple[Model, int]]:
        """The models that were given a part, with it in basis points."""
        found = [(model, self.cleaned_data.get(f"part_{model.pk}")) for model in self.models]
        return [(model, int(part * 100)) for model, part in found if part]


class PublishForm(forms.Form):
    summary = forms.CharField(
        max_length=2_000, required=False, widget=forms.Textarea(attrs={"rows": 4})
    )
    input_price = OpenAmountField(
        label="Suggested price of a token read, in OPEN",
        help_text="What the client sends. A new deployment begins with it and keeps its own price.",
    )
    output_price = OpenAmountField(
        label="Suggested price of a token written, in OPEN", help_text="What the model answers."
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for name in ("input_price", "output_price"):
            if (cleaned.get(name) or 0) > HIGHEST_PRICE:
                self.add_error(name, "At most 1 OPEN a token.")
        return cleaned


class StakersForm(forms.Form):
    """A percentage with two digits; cleans to basis points."""

    percent = forms.DecimalField(min_value=0, max_value=100, decimal_places=2)

    def clean_percent(self) -> int:
        return int(self.cleaned_data["percent"] * 100)


class StatementForm(forms.Form):
    statement = forms.CharField(
        max_length=2_000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Everyone who opens the model reads it.",
    )


class RegisterBaseForm(forms.Form):
    source = forms.ChoiceField(choices=BaseModel.Source.choices, label="Where it is")
    origin = forms.CharField(
        max_length=500,
        label="Folder or hub id",
        help_text="A folder on the worker's machine, or owner/name or owner/name@revision.",
    )
    name = forms.CharField(max_length=120, required=False, label="Name (optional)")
