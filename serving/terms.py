"""The terms of a fee as they stand when its price is held."""

from __future__ import annotations

from governance.selectors import Parameters
from ledger.fees import Terms
from modelfactory.models import Model


def terms_for(model: Model | None, parameters: Parameters) -> Terms:
    """By what a fee of the model, or of a bare base model, will be divided."""
    return Terms.of_split(parameters.split, model.owner_id if model is not None else None)
