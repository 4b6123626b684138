"""The contract ABI without web3: the web process encodes calls and decodes what was proposed.

Covers what Solidity's ABI v2 covers: (u)intN, bool, address, bytesN, bytes, string, tuples and
arrays of them. Values are int, bool, checksummed str, bytes, str, tuple and list.
Source: https://docs.soliditylang.org/en/latest/abi-spec.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from ledger.chain.addresses import address_bytes, from_bytes
from ledger.chain.keccak import keccak256

WORD = 32
_ARRAY = re.compile(r"(.+)\[(\d*)\]")
_INTEGER = re.compile(r"(u?)int(\d+)")
_FIXED_BYTES = re.compile(r"bytes(\d+)")


class AbiError(ValueError):
    """A value does not fit its type, or data is not what the types say."""


def selector(signature: str) -> bytes:
    """The first 4 bytes of the hash of `name(type,…)`."""
    return keccak256(signature.encode("ascii"))[:4]


def encode(types: Sequence[str], values: Sequence[Any]) -> bytes:
    """`abi.encode(values…)`. Raises AbiError."""
    if len(types) != len(values):
        raise AbiError(f"{len(types)} values were expected and {len(values)} given.")
    heads: list[bytes | None] = []
    tails: list[bytes] = []
    for kind, value in zip(types, values, strict=True):
        raw = _encode_one(kind, value)
        heads.append(None if _is_dynamic(kind) else raw)
        tails.append(raw if _is_dynamic(kind) else b"")
    offset = sum(WORD if head is None else len(head) for head in heads)
    out = []
    for head, tail in zip(heads, tails, strict=True):
        out.append(offset.to_bytes(WORD) if head is None else head)
        offset += len(tail)
    return b"".join(out) + b"".join(tails)


def decode(types: Sequence[str], data: bytes) -> tuple[Any, ...]:
    """The values that `encode` was given. Raises AbiError where data is too short or not proper."""
    values = []
    place = 0
    for kind in types:
        at = place
        if _is_dynamic(kind):
            at = int.from_bytes(_take(data, place, WORD))
        values.append(_decode_one(kind, data, at))
        place += _head_size(kind)
    return tuple(values)


def split_types(inner: str) -> Iterator[str]:
    """The parts of `type,type,…`, commas inside brackets left alone."""
    depth = 0
    start = 0
    for place, letter in enumerate(inner):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            yield inner[start:place]
            start = place + 1
    if inner:
        yield inner[start:]


def _members(kind: str) -> list[str]:
    return list(split_types(kind[1:-1]))


def _is_tuple(kind: str) -> bool:
    return kind.startswith("(") and kind.endswith(")")


def _is_dynamic(kind: str) -> bool:
    array = _ARRAY.fullmatch(kind)
    if array:
        return not array[2] or _is_dynamic(array[1])
    if _is_tuple(kind):
        return any(map(_is_dynamic, _members(kind)))
    return kind in ("bytes", "string")


def _head_size(kind: str) -> int:
    if _is_dynamic(kind):
        return WORD
    array = _ARRAY.fullmatch(kind)
    if array:
        return int(array[2]) * _head_size(array[1])
    if _is_tuple(kind):
        return sum(map(_head_size, _members(kind)))
    return WORD


def _encode_one(kind: str, value: Any) -> bytes:
    array = _ARRAY.fullmatch(kind)
    if array:
        if array[2] and int(array[2]) != len(value):
            raise AbiError(f"{kind} was given {len(value)} values.")
        body = encode([array[1]] * len(value), value)
        return body if array[2] else len(value).to_bytes(WORD) + body
    if _is_tuple(kind):
        return encode(_members(kind), value)
    if kind in ("bytes", "string"):
        raw = value.encode() if kind == "string" else bytes(value)
        return len(raw).to_bytes(WORD) + raw + b"\0" * (-len(raw) % WORD)
    return _encode_word(kind, value)


def _encode_word(kind: str, value: Any) -> bytes:
    fixed = _FIXED_BYTES.fullmatch(kind)
    if fixed:
        if len(value) != int(fixed[1]):
            raise AbiError(f"{kind} was given {len(value)} bytes.")
        return bytes(value).ljust(WORD, b"\0")
    if kind == "address":
        return address_bytes(value).rjust(WORD, b"\0")
    if kind == "bool":
        return int(bool(value)).to_bytes(WORD)
    integer = _INTEGER.fullmatch(kind)
    if not integer:
        raise AbiError(f"{kind} is no type of the ABI.")
    if isinstance(value, bool) or not isinstance(value, int):
        raise AbiError(f"{kind} was given {value!r}.")
    low, high = _range(integer)
    if not low <= value <= high:
        raise AbiError(f"{value} does not fit {kind}.")
    return value.to_bytes(WORD, signed=low < 0)


def _range(integer: re.Match[str]) -> tuple[int, int]:
    bits = int(integer[2])
    return (0, 2**bits - 1) if integer[1] else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _take(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise AbiError("The data ends before its types do.")
    return data[at : at + size]


def _decode_one(kind: str, data: bytes, at: int) -> Any:
    array = _ARRAY.fullmatch(kind)
    if array:
        count = int(array[2]) if array[2] else int.from_bytes(_take(data, at, WORD))
        body = data[at if array[2] else at + WORD :]
        # Every element takes a word at least, so a claimed length cannot cost more than the data.
        if count * WORD > len(body):
            raise AbiError("The data ends before its types do.")
        return list(decode([array[1]] * count, body))
    if _is_tuple(kind):
        return decode(_members(kind), data[at:])
    if kind in ("bytes", "string"):
        raw = _take(data, at + WORD, int.from_bytes(_take(data, at, WORD)))
        return raw.decode("utf-8", "replace") if kind == "string" else raw
    return _decode_word(kind, _take(data, at, WORD))


def _decode_word(kind: str, word: bytes) -> Any:
    fixed = _FIXED_BYTES.fullmatch(kind)
    if fixed:
        return word[: int(fixed[1])]
    if kind == "address":
        return from_bytes(word[12:])
    if kind == "bool":
        return word != b"\0" * WORD
    integer = _INTEGER.fullmatch(kind)
    if not integer:
        raise AbiError(f"{kind} is no type of the ABI.")
    low, high = _range(integer)
    value = int.from_bytes(word, signed=low < 0)
    if not low <= value <= high:
        raise AbiError(f"{value} does not fit {kind}.")
    return value
