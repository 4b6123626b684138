"""Where the contracts stand for this instance, and calls to them as a browser wallet takes them.

Everything here is read from the deployment's file; the web asks no node.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings

from ledger.chain import artifacts
from ledger.chain.deployment import Deployment, read_deployment
from ledger.errors import WaitingForChain


def current_deployment() -> Deployment | None:
    """The contracts of this instance; None without a chain, or before they were deployed."""
    if not settings.CHAIN_ENABLED:
        return None
    path = Path(settings.CHAIN_DEPLOYMENT)
    try:
        written = path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
    deployment = _read(path, written)
    return deployment if deployment and deployment.chain_id == settings.CHAIN_ID else None


def require_deployment() -> Deployment:
    """The contracts of this instance. Raises WaitingForChain."""
    deployment = current_deployment()
    if deployment is None:
        raise WaitingForChain(
            "This instance runs without a chain, or its contracts are not deployed yet."
        )
    return deployment


def wallet_call(contract: str, function: str, *values: Any, value: int = 0) -> dict[str, str]:
    """The fields of `eth_sendTransaction` for a wallet. Raises WaitingForChain, AbiError."""
    deployment = require_deployment()
    data = artifacts.load(contract).encode_call(function, *values)
    return raw_wallet_call(deployment.address(contract), data, value=value)


def raw_wallet_call(to: str, data: bytes, *, value: int = 0) -> dict[str, str]:
    """The same for calldata that was encoded elsewhere."""
    return {
        "to": to,
        "data": "0x" + data.hex(),
        "value": hex(value),
        "chainId": hex(settings.CHAIN_ID),
    }


@lru_cache(maxsize=4)
def _read(path: Path, written: int) -> Deployment | None:
    # `written` is part of the key: a second deployment replaces the file.
    return read_deployment(path)
