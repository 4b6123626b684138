"""Several adapters on one base that answer as one: who they are, how they weigh, what it costs.

A token costs the highest price among the adapters, times the sum of the weights' sizes where that
is above 1. So each is paid its own price at least, for what it weighs, and naming one more adapter
takes nothing from the others (docs/decisions).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from attribution.influence.shares import portion
from modelfactory.models import Model
from serving import selectors
from serving.engine.merges import HIGHEST_WEIGHT, MOST_PARENTS, Merge, MergeKind
from serving.engine.names import adapter_name
from serving.engine.types import MAX_RANK
from serving.errors import InvalidRequest, UnknownModel
from serving.external.routing import QUEUE, queue_of
from serving.models import Deployment
from serving.models.deployments import Viewer

MILLION = 10**6


@dataclass(frozen=True, slots=True)
class MergeWish:
    """What a client asks for: (name, weight in millionths) of each adapter, and how to merge."""

    adapters: tuple[tuple[str, int], ...]
    kind: MergeKind = MergeKind.LINEAR
    density_ppm: int = MILLION
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Merged:
    """The same with deployments that the asker may use, all on one base."""

    parents: tuple[tuple[Deployment, int], ...]
    kind: MergeKind
    density_ppm: int
    seed: int

    @property
    def input_price(self) -> int:
        """Wei for a token that is read."""
        return self._price([one.input_price for one, _ in self.parents])

    @property
    def output_price(self) -> int:
        """Wei for a token that is written."""
        return self._price([one.output_price for one, _ in self.parents])

    def _price(self, prices: Sequence[int]) -> int:
        size = max(MILLION, sum(abs(weight) for _, weight in self.parents))
        return -(-max(prices) * size // MILLION)

    def shares(self) -> list[tuple[Model, int]]:
        """What part of 10**9 each is paid for, by the size of its weight."""
        models = [_model(one) for one, _ in self.parents]
        weights = {str(one.model_id): abs(weight) for one, weight in self.parents}
        parts = portion(weights)
        return [(model, parts[str(model.pk)]) for model in models]

    def to_json(self) -> dict[str, Any]:
        """As it is kept with the completion, and as `attribution.merges` reads it."""
        return {
            "method": self.kind.value,
            "density_ppm": self.density_ppm if self.kind.prunes else MILLION,
            # Beyond what a number in JSON holds exactly.
            "seed": str(self.seed if self.kind.is_random else 0),
            "parents": [
                {
                    "name": deployment.name,
                    "model": str(deployment.model_id),
                    "weight_ppm": weight,
                    "share_ppb": share,
                }
                for (deployment, weight), (_, share) in zip(
                    self.parents, self.shares(), strict=True
                )
            ],
        }


def resolve(*, wish: MergeWish, deployment: Deployment, user: Viewer, at: datetime) -> Merged:
    """Find the adapters of a wish on the base that `deployment` is.

    Raises InvalidRequest and UnknownModel, which name the field that is to blame; also for an
    adapter that is not the asker's to use, of which they learn no more than of one that is not
    there.
    """
    if deployment.model_id is not None:
        base = selectors.base_deployment_of(deployment)
        raise InvalidRequest(
            f"{deployment.name} is an adapter itself. Send its base"
            f"{f', {base.name},' if base else ''} as the model, and every adapter in adapters.",
            parameter="model",
        )
    if queue_of(deployment.base_model, at=at) == QUEUE:
        raise InvalidRequest(
            f"{deployment.name} is answered by servers elsewhere, which merge no adapters. Ask one "
            "adapter at a time, as the model.",
            parameter="adapters",
        )
    names = [name for name, _ in wish.adapters]
    found = {one.name: one for one in selectors.usable_deployments(user).filter(name__in=names)}
    parents = tuple(
        (_parent(place, name, found.get(name), deployment), weight)
        for place, (name, weight) in enumerate(wish.adapters)
    )
    _check_shapes([_model(one) for one, _ in parents], wish.kind)
    return Merged(parents, wish.kind, wish.density_ppm, wish.seed)


def of_engine(merge: dict[str, Any], names: dict[UUID, str]) -> Merge:
    """A kept merge in the engine's words; `names` are what it calls the adapters of the models."""
    return Merge(
        parents=tuple(
            (names[UUID(one["model"])], one["weight_ppm"] / MILLION) for one in merge["parents"]
        ),
        kind=MergeKind(merge["method"]),
        density=merge["density_ppm"] / MILLION,
        seed=int(merge["seed"]),
    )


def wish_of(
    adapters: Sequence[tuple[str, float]],
    *,
    method: str = MergeKind.LINEAR,
    density: float = 1.0,
    seed: int = 0,
) -> MergeWish:
    """Check what a client sent. Weights and density are kept to six decimals.

    Raises InvalidRequest with the field that is to blame.
    """
    kinds = [one.value for one in MergeKind]
    if not 1 <= len(adapters) <= MOST_PARENTS:
        raise InvalidRequest(
            f"Name 1 to {MOST_PARENTS} adapters, not {len(adapters)}.", parameter="adapters"
        )
    if method not in kinds:
        raise InvalidRequest(
            f"The method {method[:40]!r} is not known; it is one of {', '.join(kinds)}.",
            parameter="merge.method",
        )
    if not (math.isfinite(density) and 0 < density <= 1 and round(density * MILLION)):
        raise InvalidRequest("density is above 0 and at most 1.", parameter="merge.density")
    if not 0 <= seed < 2**63:
        raise InvalidRequest("seed is a whole number from 0 to 2^63 - 1.", parameter="merge.seed")
    seen: set[str] = set()
    weighed = []
    for place, (name, weight) in enumerate(adapters):
        if name in seen:
            raise InvalidRequest(
                f"{name[:100]} is named twice. Give it one weight.",
                parameter=f"adapters.[{place}].model",
            )
        seen.add(name)
        is_one = math.isfinite(weight) and abs(weight) <= HIGHEST_WEIGHT
        if not is_one or not round(weight * MILLION):
            raise InvalidRequest(
                f"A weight is from -{HIGHEST_WEIGHT:g} to {HIGHEST_WEIGHT:g} and not 0.",
                parameter=f"adapters.[{place}].weight",
            )
        weighed.append((name, round(weight * MILLION)))
    return MergeWish(tuple(weighed), MergeKind(method), round(density * MILLION), seed)


def _model(deployment: Deployment) -> Model:
    assert deployment.model is not None  # checked when it was found
    return deployment.model


def _parent(place: int, name: str, found: Deployment | None, base: Deployment) -> Deployment:
    parameter = f"adapters.[{place}].model"
    if found is None:
        raise UnknownModel(
            f"There is no adapter {name[:100]!r} that you can ask. GET /v1/models lists them.",
            parameter=parameter,
        )
    if found.model_id is None:
        raise InvalidRequest(
            f"{name} is a base and no adapter. Send a base as the model alone.",
            parameter=parameter,
        )
    if found.base_model_id != base.base_model_id:
        raise InvalidRequest(
            f"{name} is an adapter of {found.base_model.name}, not of {base.base_model.name}. "
            "Merge adapters of one base.",
            parameter=parameter,
        )
    return found


def _check_shapes(models: Sequence[Model], kind: MergeKind) -> None:
    """What is known of adapters before they are read; the engine checks layer by layer."""
    seen: dict[str, str] = {}
    for place, model in enumerate(models):
        name = adapter_name(model.adapter_sha256, model.adapter_config)
        if name in seen:
            raise InvalidRequest(
                f"{model.name} and {seen[name]} are the same adapter. Give one of them the weight "
                "of both.",
                parameter=f"adapters.[{place}].model",
            )
        seen[name] = model.name
        if model.adapter_config.get("use_dora"):
            raise InvalidRequest(
                f"{model.name} is a DoRA adapter, whose lengths do not add up. Choose another.",
                parameter=f"adapters.[{place}].model",
            )
    ranks = [int(model.adapter_config.get("r", 0)) for model in models]
    if kind is MergeKind.CAT:
        if sum(ranks) > MAX_RANK:
            raise InvalidRequest(
                f"The ranks of the adapters add up to {sum(ranks)}; {MAX_RANK} is the most.",
                parameter="adapters",
            )
    elif len(set(ranks)) > 1:
        raise InvalidRequest(
            f"The adapters have different ranks ({', '.join(map(str, ranks))}). Only the method "
            "cat merges those.",
            parameter="merge.method",
        )
