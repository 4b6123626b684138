"""What a proposal proposes: building its actions, and reading those of others. No web3, no rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.chain import artifacts
from ledger.chain.abi import AbiError
from ledger.chain.deployment import Deployment
from ledger.chain.keccak import keccak256

KEY_BYTES = 32
TITLE_LENGTH = 200
# Order of the struct in the contract, under our own words.
SPLIT_FIELDS = {
    "platform": "platform",
    "model_owner": "modelOwner",
    "stakers": "stakers",
    "contributors": "contributors",
}


@dataclass(frozen=True)
class Motion:
    """The arguments of `propose`, which are also those of `queue`, `execute` and `cancel`."""

    targets: tuple[str, ...]
    values: tuple[int, ...]
    calldatas: tuple[bytes, ...]
    description: str

    @property
    def propose_arguments(self) -> tuple[Any, ...]:
        return (list(self.targets), list(self.values), list(self.calldatas), self.description)

    @property
    def later_arguments(self) -> tuple[Any, ...]:
        """Those of `queue`, `execute` and `cancel`: the description as its hash."""
        digest = keccak256(self.description.encode())
        return (list(self.targets), list(self.values), list(self.calldatas), digest)


@dataclass(frozen=True)
class Action:
    """One call that a proposal makes, decoded where the contract is ours."""

    target: str
    contract: str
    function: str
    arguments: Sequence[tuple[str, str]]
    value: int
    data: str

    @property
    def is_text_only(self) -> bool:
        """It reads a number and changes nothing: the text is what is decided."""
        return self.function == "version()" and self.contract == "Parameters"


def split_motion(deployment: Deployment, split: Mapping[str, int], description: str) -> Motion:
    """Set the fee split. Raises AbiError for a part that does not fit."""
    parts = tuple(split[name] for name in SPLIT_FIELDS)
    data = artifacts.load("Parameters").encode_call("setSplit", parts)
    return Motion((deployment.address("Parameters"),), (0,), (data,), description)


def values_motion(
    deployment: Deployment, changes: Mapping[str, tuple[int | None, int]], description: str
) -> Motion:
    """Set governed numbers, all in one version; `changes` are (what the chain has, what it gets).

    A number that was never set is 0 to the contract, which refuses to set what it has already. To
    set one to 0 for the first time (its default here may be another) it is set to 1 before, in the
    same call. Raises AbiError for a number that is none of 256 bits.
    """
    keys: list[bytes] = []
    numbers: list[int] = []
    for key, (before, after) in sorted(changes.items()):
        for number in (1, 0) if before is None and after == 0 else (after,):
            keys.append(key_word(key))
            numbers.append(number)
    data = artifacts.load("Parameters").encode_call("set", keys, numbers)
    return Motion((deployment.address("Parameters"),), (0,), (data,), description)


def text_motion(deployment: Deployment, description: str) -> Motion:
    """Decide a text. The Governor wants an action, so it reads a version number, to no effect."""
    data = artifacts.load("Parameters").encode_call("version")
    return Motion((deployment.address("Parameters"),), (0,), (data,), description)


def kind_of(targets: Sequence[str], calldatas: Sequence[str]) -> str:
    """SPLIT, VALUE, TEXT or OTHER, by the only action of a proposal."""
    parameters = artifacts.load("Parameters")
    if len(targets) != 1:
        return "OTHER"
    selector = bytes.fromhex(calldatas[0].removeprefix("0x"))[:4]
    if selector == parameters.function("setSplit").selector:
        return "SPLIT"
    if selector == parameters.function("set").selector:
        return "VALUE"
    return "TEXT" if selector == parameters.function("version").selector else "OTHER"


def title_of(description: str) -> str:
    """The first line that says something, without Markdown's marks."""
    lines = (line.strip().lstrip("#").strip() for line in description.splitlines())
    return next((line for line in lines if line), "Without a title")[:TITLE_LENGTH]


def decode_action(deployment: Deployment | None, target: str, value: str, data: str) -> Action:
    """An action in words; a contract that is not ours keeps its bare data."""
    contract = deployment.name(target) if deployment else ""
    raw = bytes.fromhex(data.removeprefix("0x"))
    decoded = None
    if contract:
        try:
            decoded = artifacts.load(contract).decode_call(raw)
        except AbiError:
            decoded = None
    if decoded is None:
        return Action(target, contract, "", (), int(value), data)
    item, arguments = decoded
    if contract == "Parameters" and item.name == "set":
        told = [(key_text(key), str(number)) for key, number in _pairs(arguments)]
        return Action(target, contract, item.signature, told, int(value), data)
    return Action(target, contract, item.signature, list(_flat(arguments)), int(value), data)


def split_of_action(deployment: Deployment | None, target: str, data: str) -> dict[str, int] | None:
    """The split that an action sets, in basis points; None where it sets none."""
    arguments = _arguments_of(deployment, target, data, "setSplit")
    if arguments is None:
        return None
    parts = arguments["parts"]
    return {name: int(parts[field]) for name, field in SPLIT_FIELDS.items()}


def values_of_action(
    deployment: Deployment | None, target: str, data: str
) -> list[tuple[str, int]]:
    """The governed numbers that an action sets, in its order, by key."""
    arguments = _arguments_of(deployment, target, data, "set")
    if arguments is None:
        return []
    return [(key_text(key), number) for key, number in _pairs(arguments)]


def key_word(key: str) -> bytes:
    """A key as bytes32."""
    return key.encode("ascii").ljust(KEY_BYTES, b"\0")


def key_text(word: bytes) -> str:
    """A bytes32 key as the short string that it is, else as hex."""
    raw = bytes(word).rstrip(b"\0")
    text = raw.decode("ascii") if raw.isascii() else ""
    return text if text.isprintable() and text else "0x" + bytes(word).hex()


def _arguments_of(
    deployment: Deployment | None, target: str, data: str, function: str
) -> Mapping[str, Any] | None:
    """What `Parameters` is called with, where it is that function that is called."""
    if deployment is None or deployment.name(target) != "Parameters":
        return None
    try:
        decoded = artifacts.load("Parameters").decode_call(bytes.fromhex(data.removeprefix("0x")))
    except AbiError:
        return None
    return decoded[1] if decoded is not None and decoded[0].name == function else None


def _pairs(arguments: Mapping[str, Any]) -> list[tuple[bytes, int]]:
    # A call with lists of different lengths can be proposed; the contract refuses to run it.
    return list(zip(arguments["keys"], arguments["values"], strict=False))


def _flat(arguments: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in arguments.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            shown = "0x" + value.hex() if isinstance(value, bytes) else str(value)
            rows.append((f"{prefix}{name}", shown))
    return rows
