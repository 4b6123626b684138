"""An exact audit as its page tells it: of the one model, or of each of several that answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from attribution.models import ExactAudit, Receipt
from attribution.rescored import PERCENT, Moved, moved_between, moved_in_parts
from attribution.translog.money import readings
from modelfactory.models import Model


@dataclass(frozen=True, slots=True)
class ExactReading:
    """`told` is what the body says of the model, and `moved` whose share differs by it. Of several
    models `percent` is the model's part of the whole answer, of which shares are told as parts;
    `model` is None where one answered, or the reader may not see it."""

    told: Mapping[str, Any]
    moved: list[Moved]
    model: Model | None = None
    percent: float = 100

    @property
    def not_replayed(self) -> str:
        return str(self.told.get("not_replayed", ""))

    @property
    def correlation(self) -> float | None:
        parts = self.told.get("correlation_ppm")
        return None if parts is None else parts / 1_000_000

    @property
    def largest(self) -> float:
        return float(self.told["largest_difference_ppb"]) / PERCENT

    @property
    def elsewhere(self) -> float:
        return float(self.told["elsewhere_ppb"]) / PERCENT


def exact_readings_of(audit: ExactAudit, receipt: Receipt, user: Any) -> list[ExactReading]:
    """In the order of the receipt's models."""
    told = readings(audit.public)
    if "merge" not in audit.public:
        one = told[0]
        moved = moved_between(one["index_shares"], one["exact_shares"], receipt, user)
        return [ExactReading(one, moved)]
    then = readings(receipt.public)
    ids = [UUID(one["model"]["id"]) for one in told]
    # A model whose training was not run once more keeps its shares in what is compared.
    parts = [
        (
            model_id,
            int(one["share_ppb"]),
            one.get("index_shares", before["shares"]),
            one.get("exact_shares", before["shares"]),
        )
        for model_id, one, before in zip(ids, told, then, strict=True)
    ]
    moved = moved_in_parts(parts, receipt, user)
    models = Model.objects.visible_to(user).in_bulk(ids)
    return [
        ExactReading(
            one,
            [line for line in moved if line.model_id == model_id],
            models.get(model_id),
            one["share_ppb"] / PERCENT,
        )
        for model_id, one in zip(ids, told, strict=True)
    ]
