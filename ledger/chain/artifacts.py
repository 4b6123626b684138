"""The committed contracts: their bytecode and their ABI, and coding with it. No web3."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from ledger.chain import abi
from ledger.chain.keccak import keccak256

ARTIFACTS = Path(__file__).resolve().parent.parent / "contracts" / "artifacts"
CONTRACTS = (
    "Timelock",
    "GovernanceToken",
    "OpenGovernor",
    "Parameters",
    "RewardDistributor",
    "LogAnchor",
    "StakePools",
    "Gateway",
    "AddressRegistry",
)


@dataclass(frozen=True)
class Item:
    """One function, event or error of an ABI."""

    name: str
    inputs: tuple[Mapping[str, Any], ...]
    outputs: tuple[Mapping[str, Any], ...] = ()

    @cached_property
    def types(self) -> list[str]:
        return [_canonical(entry) for entry in self.inputs]

    @cached_property
    def signature(self) -> str:
        return f"{self.name}({','.join(self.types)})"

    @cached_property
    def selector(self) -> bytes:
        return abi.selector(self.signature)

    @cached_property
    def topic(self) -> bytes:
        return keccak256(self.signature.encode("ascii"))

    def named(self, values: Sequence[Any]) -> dict[str, Any]:
        """Values by the names of the inputs, tuples' members likewise."""
        return {
            entry["name"].rstrip("_"): _named_value(entry, value)
            for entry, value in zip(self.inputs, values, strict=True)
        }


@dataclass(frozen=True)
class Artifact:
    """One contract. Overloads are told apart by their full signature."""

    name: str
    abi: tuple[Mapping[str, Any], ...]
    bytecode: str

    @cached_property
    def functions(self) -> dict[str, Item]:
        return self._items("function")

    @cached_property
    def events(self) -> dict[bytes, Item]:
        return {item.topic: item for item in self._items("event").values()}

    @cached_property
    def errors(self) -> dict[bytes, Item]:
        return {item.selector: item for item in self._items("error").values()}

    def function(self, name: str) -> Item:
        """The function of that name or full signature. Raises KeyError for none or several."""
        if "(" in name:
            return self.functions[name]
        found = [item for item in self.functions.values() if item.name == name]
        if len(found) != 1:
            raise KeyError(f"{self.name} has {len(found)} functions called {name}.")
        return found[0]

    def encode_call(self, name: str, *values: Any) -> bytes:
        """Calldata. Raises KeyError, abi.AbiError."""
        item = self.function(name)
        return item.selector + abi.encode(item.types, values)

    def decode_result(self, name: str, data: bytes) -> tuple[Any, ...]:
        """What a call returned."""
        return abi.decode([_canonical(entry) for entry in self.function(name).outputs], data)

    def decode_call(self, data: bytes) -> tuple[Item, dict[str, Any]] | None:
        """The function and arguments of calldata; None where this contract has no such function."""
        for item in self.functions.values():
            if item.selector == data[:4]:
                return item, item.named(abi.decode(item.types, data[4:]))
        return None

    def decode_log(self, topics: Sequence[bytes], data: bytes) -> tuple[str, dict[str, Any]] | None:
        """The event's name and arguments; None for an event that this contract has not."""
        item = self.events.get(topics[0]) if topics else None
        if item is None:
            return None
        indexed = [bool(entry["indexed"]) for entry in item.inputs]
        plain = [kind for kind, is_topic in zip(item.types, indexed, strict=True) if not is_topic]
        from_data = iter(abi.decode(plain, data))
        from_topics = iter(topics[1:])
        values = [
            _from_topic(kind, next(from_topics)) if is_topic else next(from_data)
            for kind, is_topic in zip(item.types, indexed, strict=True)
        ]
        return item.name, item.named(values)

    def explain(self, data: bytes) -> str:
        """A revert in words: the custom error and its arguments."""
        item = self.errors.get(data[:4])
        if item is not None:
            try:
                values = abi.decode(item.types, data[4:])
            except abi.AbiError:
                return item.name
            named = item.named(values).items()
            return f"{item.name}({', '.join(f'{key}={_text(value)}' for key, value in named)})"
        if data[:4] == abi.selector("Error(string)"):
            return str(abi.decode(["string"], data[4:])[0])
        return f"0x{data.hex()}" if data else "reverted without a reason"

    def encode_constructor(self, *values: Any) -> bytes:
        """The creation bytecode with the constructor's arguments."""
        code = bytes.fromhex(self.bytecode.removeprefix("0x"))
        constructors = (entry for entry in self.abi if entry["type"] == "constructor")
        types = [_canonical(entry) for item in constructors for entry in item["inputs"]]
        return code + abi.encode(types, values)

    def _items(self, kind: str) -> dict[str, Item]:
        items = [
            Item(entry["name"], tuple(entry["inputs"]), tuple(entry.get("outputs", ())))
            for entry in self.abi
            if entry["type"] == kind
        ]
        return {item.signature: item for item in items}


@cache
def load(name: str) -> Artifact:
    """The contract called `name`. Raises FileNotFoundError."""
    raw = json.loads((ARTIFACTS / f"{name}.json").read_text())
    return Artifact(raw["contractName"], tuple(raw["abi"]), raw["bytecode"])


def explain_revert(data: bytes) -> str:
    """A revert of any of our contracts in words."""
    for name in CONTRACTS:
        if data[:4] in load(name).errors:
            return load(name).explain(data)
    return load(CONTRACTS[0]).explain(data)


def _canonical(entry: Mapping[str, Any]) -> str:
    kind = str(entry["type"])
    if not kind.startswith("tuple"):
        return kind
    members = ",".join(_canonical(member) for member in entry["components"])
    return f"({members}){kind.removeprefix('tuple')}"


def _named_value(entry: Mapping[str, Any], value: Any) -> Any:
    kind = str(entry["type"])
    if kind == "tuple":
        return {
            member["name"]: _named_value(member, part)
            for member, part in zip(entry["components"], value, strict=True)
        }
    if kind.startswith("tuple["):
        one = {**entry, "type": "tuple"}
        return [_named_value(one, part) for part in value]
    return value


def _from_topic(kind: str, topic: bytes) -> Any:
    # An indexed string or array is only there as its hash.
    if kind in ("string", "bytes") or kind.endswith("]") or kind.startswith("("):
        return topic
    return abi.decode([kind], topic)[0]


def _text(value: Any) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)
