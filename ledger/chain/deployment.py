"""Where the contracts are: the file that the deployment wrote. Read by the web, so no web3."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ledger.chain.addresses import to_checksum
from ledger.chain.artifacts import CONTRACTS


@dataclass(frozen=True)
class Deployment:
    """`block` is the last block before the contracts; `settings` what they were deployed with."""

    chain_id: int
    block: int
    genesis_hash: str
    addresses: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    gas: int = 0

    def address(self, contract: str) -> str:
        """Raises KeyError for a contract that was not deployed."""
        return self.addresses[contract]

    @property
    def missing(self) -> tuple[str, ...]:
        """The contracts of this release that it lacks: it was written by an earlier one."""
        return tuple(name for name in CONTRACTS if name not in self.addresses)

    def name(self, address: str) -> str:
        """The contract at `address`, or "" for none of ours."""
        wanted = address.lower()
        return next((name for name, at in self.addresses.items() if at.lower() == wanted), "")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_deployment(path: Path) -> Deployment | None:
    """The deployment at `path`, or None where there is no such file.

    Raises ValueError and KeyError where the file is not what the deployment writes.
    """
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return Deployment(
        chain_id=int(raw["chain_id"]),
        block=int(raw["block"]),
        genesis_hash=str(raw["genesis_hash"]),
        addresses={name: to_checksum(address) for name, address in raw["addresses"].items()},
        settings=raw.get("settings", {}),
        gas=int(raw.get("gas", 0)),
    )
