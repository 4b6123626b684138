"""The terms of a fee as they stand when its price is held."""

from __future__ import annotations

from datanets.lineage import passings
from governance.selectors import Parameters
from ledger.fees import Terms
from modelfactory.lineage import lineage_datanets, passing_of
from modelfactory.models import Model


def terms_for(model: Model | None, parameters: Parameters) -> Terms:
    """By what a fee of the model, or of a bare base model, will be divided."""
    if model is None:
        return Terms.of_split(parameters.split)
    datanets = lineage_datanets(model.run_id)
    return Terms(
        split=parameters.split,
        model_owner=model.owner_id,
        model_stakers_bps=model.stakers_bps,
        royalties=passing_of(model.pk, parameters),
        datanets=tuple(passings(datanets, parameters).items()),
    )
