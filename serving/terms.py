"""The terms of a fee as they stand when its price is held."""

from __future__ import annotations

from collections.abc import Sequence

from datanets.lineage import passings
from governance.selectors import Parameters
from ledger.fees import Parent, Terms
from modelfactory.lineage import datanets_of_model, passing_of
from modelfactory.models import Model


def terms_for(model: Model | None, parameters: Parameters) -> Terms:
    """By what a fee of the model, or of a bare base model, will be divided."""
    if model is None:
        return Terms.of_split(parameters.split)
    datanets = datanets_of_model(model.run_id)
    return Terms(
        split=parameters.split,
        model_owner=model.owner_id,
        model_stakers_bps=model.stakers_bps,
        royalties=passing_of(model.pk, parameters),
        datanets=tuple(passings(datanets, parameters).items()),
    )


def terms_for_merge(parents: Sequence[tuple[Model, int]], parameters: Parameters) -> Terms:
    """The same for models that answer as one, each with its share in parts of 10**9."""
    datanets = {one for model, _ in parents for one in datanets_of_model(model.run_id)}
    return Terms(
        split=parameters.split,
        datanets=tuple(passings(datanets, parameters).items()),
        parents=tuple(
            Parent(
                model_id=model.pk,
                share_ppb=share,
                owner_id=model.owner_id,
                stakers_bps=model.stakers_bps,
                royalties=passing_of(model.pk, parameters),
            )
            for model, share in parents
        ),
    )
