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

import rfc8785

MAX_DEPTH = 64

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
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeError, RecursionError) as error:
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
