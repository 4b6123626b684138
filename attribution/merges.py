"""Receipts of several models that answered as one: each is read alone, and each by its share.

Serving hands over {"method", "density_ppm", "seed", "parents": [{"model", "name", "weight_ppm",
"share_ppb"}, …]}. A model's influences are those of its own index, as if it had answered alone,
since integers of two indexes have no common unit; what it would credit alone is credited by the
size of its weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from attribution import bodies, crediting
from attribution.bodies import Evidence, ParentEvidence, TopRecord
from attribution.crediting import Crediting
from attribution.influence.shares import WHOLE
from attribution.models import Attribution
from modelfactory.models import Model

HOW = ("method", "density_ppm", "seed")


def models_of(attribution: Attribution) -> list[Model]:
    """The models that an answer is attributed to: none for a base, several for a merge."""
    if attribution.merge is None:
        return [attribution.model] if attribution.model else []
    ids = [UUID(one["model"]) for one in attribution.merge["parents"]]
    found = Model.objects.select_related("base_model", "run").in_bulk(ids)
    return [found[one] for one in ids]


def of_body(public: Mapping[str, Any]) -> dict[str, Any] | None:
    """What serving handed over, from a receipt's body; None where one model answered."""
    merge = public.get("merge")
    if merge is None:
        return None
    parents = [
        {
            "model": one["model"]["id"],
            "weight_ppm": one["weight_ppm"],
            "share_ppb": one["share_ppb"],
        }
        for one in merge["parents"]
    ]
    return {**{name: merge[name] for name in HOW}, "parents": parents}


def credited(evidence: Evidence, model_id: UUID | None) -> Crediting:
    """Who is credited by what was found: of several models, what each would credit by its share."""
    if evidence.parents:
        return crediting.combine(
            [(one.share_ppb, credited(one.evidence, one.model.pk)) for one in evidence.parents]
        )
    return crediting.credit(
        influences=evidence.influences,
        counts=evidence.counts,
        model_id=model_id,
        has_answer=evidence.has_answer,
        is_clear=evidence.confidence is None or evidence.confidence.clear,
        has_index=evidence.has_index,
    )


def together(
    attribution: Attribution, models: Sequence[Model], alone: Sequence[Evidence], most: int
) -> Evidence:
    """One evidence of what was found about each; at most `most` records are shown."""
    assert attribution.merge is not None
    shares = [one["share_ppb"] for one in attribution.merge["parents"]]
    return Evidence(
        records=_records(shares, alone, most),
        sketch=b"".join(one.sketch for one in alone),
        has_answer=bool(attribution.answer_ids),
        prompt_method=alone[0].prompt_method,
        prompt_weights=_prompt_weights(shares, alone),
        parents=[
            ParentEvidence(model, share, one)
            for model, share, one in zip(models, shares, alone, strict=True)
        ],
    )


def _records(shares: Sequence[int], alone: Sequence[Evidence], most: int) -> list[TopRecord]:
    """The best of each, then the second of each; of what several learnt from, the first."""
    ordered = sorted(
        ((rank, -share, top) for share, one in zip(shares, alone, strict=True)
         for rank, top in enumerate(one.records)),
        key=lambda line: line[:2],
    )  # fmt: skip
    found: dict[UUID, TopRecord] = {}
    for _, _, top in ordered:
        found.setdefault(top.record_id, top)
    return list(found.values())[:most]


def _prompt_weights(shares: Sequence[int], alone: Sequence[Evidence]) -> list[int]:
    """Each token's weight by each model, by their shares; empty where one has none."""
    if not all(one.prompt_weights for one in alone):
        return []
    columns = zip(*(one.prompt_weights for one in alone), strict=True)
    return [sum(w * s for w, s in zip(column, shares, strict=True)) // WHOLE for column in columns]


def with_parents(private: dict[str, Any], evidence: Evidence) -> dict[str, Any]:
    """The private part with each model's own sketch, from which byte on it stands, and records."""
    if not evidence.parents:
        return private
    parents, begin = [], 0
    for one in evidence.parents:
        sketch = bodies.sketch_part(one.evidence)
        place = {"from": begin, "bytes": len(one.evidence.sketch)}
        begin += len(one.evidence.sketch)
        parents.append(
            {
                "model": str(one.model.pk),
                "sketch": sketch | place if sketch else None,
                "records": bodies.records_part(one.evidence),
            }
        )
    whole = private["sketch"]
    return private | {"sketch": {"sha256": whole["sha256"]} if whole else None, "parents": parents}


def public_part(
    told: dict[str, Any],
    merge: Mapping[str, Any] | None,
    evidence: Evidence,
    found: Crediting,
) -> dict[str, Any]:
    """`told` as it is of one model, else with what each of several had influence by."""
    if merge is None:
        return told
    return told | {
        "schema": bodies.MERGED_SCHEMA,
        "merge": merge_part(merge, evidence, found),
    }


def merge_part(merge: Mapping[str, Any], evidence: Evidence, found: Crediting) -> dict[str, Any]:
    """How the models were merged, and what each had influence by and would credit."""
    weights = {one["model"]: one["weight_ppm"] for one in merge["parents"]}
    parents = [
        {
            "model": bodies.model_part(one.model),
            "weight_ppm": weights[str(one.model.pk)],
            "share_ppb": one.share_ppb,
            "index_root": one.evidence.index_root or None,
            "method": dict(one.evidence.method) if one.evidence.method else None,
            "outcome": alone.outcome,
            "influence": bodies.influence_part(one.evidence),
            "confidence": bodies.confidence_part(one.evidence.confidence),
            "shares": alone.shares,
        }
        for one, alone in zip(evidence.parents, found.parents, strict=True)
    ]
    return {**{name: merge[name] for name in HOW}, "parents": parents}
