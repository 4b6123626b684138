"""What an adapter is called, in this engine and in others. No torch here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from attribution.translog import canonical


def adapter_name(weights_sha256: str, config: Mapping[str, Any]) -> str:
    """Content hash of an adapter: the same weights compute something else with another config."""
    identity = {"config": dict(config), "weights_sha256": weights_sha256}
    return hashlib.sha256(canonical.dumps(identity)).hexdigest()
