"""Canonical JSON (RFC 8785): one value, one sequence of bytes, so that hashes can be compared.

Integers beyond ±(2**53 - 1) do not survive JSON readers and are refused: write wei and other wide
integers as decimal strings. ``loads`` refuses what a canonical writer never wrote (duplicate keys,
NaN, infinities, deep nesting), so that two readers never see two values in one file.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

MAX_DEPTH = 64
MAX_SAFE = 2**53 - 1
# Deeper values are written by the slow way, which tells where they have no end.
PLAIN_DEPTH = 32

_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


class CanonicalError(ValueError):
    """The value has no canonical form, or the text is not strict JSON."""


def dumps(value: Any) -> bytes:
    """The canonical bytes of a JSON value.

    Raises CanonicalError for what JSON cannot hold exactly (wide integers, NaN, lone surrogates,
    keys that are no strings, nesting without end).
    """
    try:
        if _is_plain(value):
            return _plain(value).encode()
        parts: list[str] = []
        _write(value, parts)
        return "".join(parts).encode()
    except (UnicodeError, RecursionError) as error:
        raise CanonicalError(str(error) or type(error).__name__) from error


def sha256(value: Any) -> str:
    """Lowercase hex SHA-256 of the canonical bytes."""
    return hashlib.sha256(dumps(value)).hexdigest()


def loads(data: bytes | str) -> Any:
    """Read strict JSON (UTF-8).

    Raises CanonicalError for a syntax error, duplicate keys, NaN or infinities, invalid UTF-8 and
    nesting deeper than MAX_DEPTH.
    """
    try:
        text = data.decode() if isinstance(data, bytes) else data
        _check_depth(text)
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except CanonicalError:
        raise
    except (ValueError, RecursionError) as error:
        raise CanonicalError(f"not strict JSON: {error}") from error


def is_canonical(data: bytes) -> bool:
    try:
        return dumps(loads(data)) == data
    except CanonicalError:
        return False


def _is_plain(value: Any) -> bool:
    """Whether the standard library's own encoder, which is compiled, writes the canonical form.

    So it does where names are ASCII, which sort alike by code points and by UTF-16, and where no
    number is a float. A value that is deep or contains itself is none.
    """
    waiting: list[Any] = [value]
    for _ in range(PLAIN_DEPTH):
        inner: list[Any] = []
        for item in waiting:
            kind = type(item)
            if kind is dict:
                for name in item:
                    if type(name) is not str or not name.isascii():
                        return False
                inner += item.values()
            elif kind is list or kind is tuple:
                inner += item
            elif kind is int:
                if not -MAX_SAFE <= item <= MAX_SAFE:
                    return False
            elif not (kind is str or kind is bool or item is None):
                return False
        if not inner:
            return True
        waiting = inner
    return False


_plain = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, sort_keys=True, separators=(",", ":")
).encode


def _write(value: Any, parts: list[str]) -> None:
    if isinstance(value, str):
        parts.append(_text(value))
    elif value is None or isinstance(value, bool):
        parts.append({None: "null", True: "true", False: "false"}[value])
    elif isinstance(value, int):
        if abs(value) > MAX_SAFE:
            raise CanonicalError(f"{value} does not survive JSON readers: write it as a string")
        parts.append(str(int(value)))
    elif isinstance(value, float):
        parts.append(_number(value))
    elif isinstance(value, list | tuple):
        parts.append("[")
        for place, item in enumerate(value):
            if place:
                parts.append(",")
            _write(item, parts)
        parts.append("]")
    elif isinstance(value, dict):
        _write_object(value, parts)
    else:
        raise CanonicalError(f"{type(value).__name__} has no form in JSON")


def _write_object(value: dict[Any, Any], parts: list[str]) -> None:
    """Members in the order of their names' UTF-16 code units (RFC 8785, 3.2.3)."""
    if not all(isinstance(name, str) for name in value):
        raise CanonicalError("the names of an object are strings")
    parts.append("{")
    for place, name in enumerate(sorted(value, key=lambda name: name.encode("utf-16-be"))):
        if place:
            parts.append(",")
        parts += (_text(name), ":")
        _write(value[name], parts)
    parts.append("}")


# Escapes what RFC 8785 (3.2.2.2) names and nothing else. Lone surrogates fail when encoded.
_text = json.JSONEncoder(ensure_ascii=False).encode


def _number(value: float) -> str:
    """As ECMAScript writes it (RFC 8785, 3.2.2.3): Python's shortest digits, set out otherwise."""
    if value - value != 0:
        raise CanonicalError("NaN and infinities have no form in JSON")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    kept = (whole + fraction).lstrip("0")
    # The value is 0.digits times ten to the power of `point`.
    point = len(whole) - (len(whole + fraction) - len(kept)) + int(exponent or 0)
    digits = kept.rstrip("0")
    if len(digits) <= point <= 21:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{rest}e{point - 1:+d}"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise CanonicalError("an object has the same key twice")
    return result


def _no_constant(name: str) -> Any:
    raise CanonicalError(f"{name} is not JSON")


def _check_depth(text: str) -> None:
    # Before the parser runs: its own recursion limit may have been raised by others in the
    # process, and then deep nesting overruns the C stack.
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > MAX_DEPTH:
            raise CanonicalError(f"nested deeper than {MAX_DEPTH}")
