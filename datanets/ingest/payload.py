"""A record's payload: one of two shapes, its canonical bytes and its content hash.

``{"messages": [{"role", "content"}, …]}`` or ``{"text": str}``. The hash is the lowercase hex
SHA-256 of the RFC 8785 bytes, so anyone who holds the text can compute it again.
"""

import hashlib
from typing import Any

from attribution.translog import canonical
from datanets.ingest.faults import ValueFault

Payload = dict[str, Any]

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"


def content_hash(payload: Payload) -> str:
    """Lowercase hex SHA-256 of the canonical payload."""
    return hashlib.sha256(canonical.dumps(payload)).hexdigest()


def texts(payload: Payload) -> list[str]:
    """Every text of the payload, in order."""
    if "text" in payload:
        return [payload["text"]]
    return [message["content"] for message in payload["messages"]]


def length(payload: Payload) -> int:
    """Characters of text in the payload."""
    return sum(map(len, texts(payload)))


def excerpt(payload: Payload, limit: int) -> str:
    """The beginning of the payload's text, for lists and search."""
    return "\n".join(texts(payload))[:limit]


def require_text(value: Any, column: str, *, limit: int) -> str:
    """The value as training text, kept to the letter. Raises ValueFault with the column."""
    if value is None:
        raise ValueFault(
            "MISSING", f"“{column}” is missing. Fill it in or leave the row out.", column
        )
    if not isinstance(value, str):
        raise ValueFault(
            "NOT_TEXT",
            f"“{column}” is {_kind(value)}, not text. Write it as text in quotes.",
            column,
        )
    if not value.strip():
        raise ValueFault("BLANK", f"“{column}” is empty. Fill it in or leave the row out.", column)
    return require_storable(value, column, limit=limit)


def require_storable(value: str, column: str, *, limit: int) -> str:
    """Text that database, JSON and models can all hold. Raises ValueFault."""
    if "\0" in value:
        raise ValueFault(
            "ZERO_CHARACTER", f"“{column}” contains a zero character. Take it out.", column
        )
    if len(value) > limit:
        raise ValueFault(
            "TEXT_TOO_LONG",
            f"“{column}” has {len(value):,} characters; {limit:,} are allowed. Split the row.",
            column,
        )
    return value


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return "a list" if isinstance(value, list) else "an object"
