"""The fields `adapters` and `merge` of a request, which OpenAI's clients send as `extra_body`."""

from __future__ import annotations

import msgspec

from serving.errors import InvalidRequest
from serving.merges import MergeWish, wish_of


class Adapter(msgspec.Struct, kw_only=True):
    model: str
    weight: float


class Settings(msgspec.Struct, kw_only=True):
    method: str = "linear"
    density: float = 1.0
    seed: int = 0


def read(adapters: list[Adapter] | None, settings: Settings | None) -> MergeWish | None:
    """None where no adapters are named. Raises InvalidRequest."""
    if adapters is None:
        if settings is not None:
            raise InvalidRequest(
                "merge says how adapters are merged: name them in adapters.", parameter="adapters"
            )
        return None
    how = settings or Settings()
    return wish_of(
        [(one.model, one.weight) for one in adapters],
        method=how.method,
        density=how.density,
        seed=how.seed,
    )
