"""Forms of servers elsewhere. A key goes in and never comes out again."""

from __future__ import annotations

from typing import Any

from django import forms

from modelfactory.models import BaseModel
from serving.models import ReplicaKind


class KeyField(forms.CharField):
    def __init__(self, **options: Any) -> None:
        widget = forms.PasswordInput(render_value=False, attrs={"autocomplete": "off"})
        super().__init__(required=False, max_length=500, widget=widget, strip=True, **options)


class ReplicaForm(forms.Form):
    name = forms.SlugField(max_length=80, help_text="How the house calls it, such as gpu-1.")
    base_model = forms.ModelChoiceField(BaseModel.objects.none(), to_field_name="slug")
    kind = forms.ChoiceField(
        choices=ReplicaKind.choices,
        help_text="A vLLM loads adapters when it is told to (VLLM_ALLOW_RUNTIME_LORA_UPDATING).",
    )
    base_url = forms.CharField(
        label="Address",
        max_length=300,
        help_text="https://host:port, as the workers reach it. Private networks are named in "
        "EXTERNAL_ENGINE_NETWORKS.",
        widget=forms.TextInput(attrs={"inputmode": "url", "autocomplete": "off"}),
    )
    served_name = forms.CharField(
        label="The base's name there", max_length=300, help_text="As its /v1/models lists it."
    )
    key = KeyField(label="Key", help_text="Kept sealed, and never shown again.")
    adapter_folder = forms.CharField(
        label="Adapters' folder there",
        required=False,
        max_length=500,
        help_text="Where that server sees EXTERNAL_ADAPTER_DIR; empty where the path is the same.",
    )
    slots = forms.IntegerField(
        label="Requests together", initial=32, min_value=1, max_value=100_000,
        help_text="What it answers at once (--max-num-seqs).",
    )  # fmt: skip
    max_adapters = forms.IntegerField(
        label="Adapters together", initial=8, min_value=1, max_value=100_000,
        help_text="What it holds before it drops one (--max-loras).",
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["base_model"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = BaseModel.objects.ready()


class ReplicaChangeForm(forms.Form):
    is_enabled = forms.BooleanField(label="It is asked", required=False)
    key = KeyField(label="Another key", help_text="Empty keeps the one it has.")
