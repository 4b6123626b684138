"""One JSON value out of bytes, strictly, at a bounded depth.

msgspec refuses NaN, Infinity, trailing commas and the like; the depth is counted before decoding,
so that 100 kB of brackets cost one scan and never the interpreter's stack.
"""

import re
from typing import Any

import msgspec

from datanets.ingest.faults import ValueFault

# Whole strings are skipped in one match; a lone quote is a string that never closes.
STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["\[\]{}]', re.DOTALL)
OPENERS = (b"[", b"{")

_decoder = msgspec.json.Decoder()


def depth_of(data: bytes, stop_at: int) -> int:
    """The deepest nesting in data, counted up to stop_at + 1 and no further."""
    if data.count(b"[") + data.count(b"{") <= stop_at:
        return 0
    depth = deepest = 0
    for match in STRUCTURE.finditer(data):
        token = match.group()
        if token in OPENERS:
            depth += 1
            deepest = max(deepest, depth)
            if deepest > stop_at:
                break
        elif token in (b"]", b"}"):
            depth -= 1
    return deepest


def decode(data: bytes, *, depth: int) -> Any:
    """The value of one JSON text. Raises ValueFault (JSON, DEPTH)."""
    if depth_of(data, depth) > depth:
        raise ValueFault(
            "DEPTH",
            f"The row is nested deeper than {depth} levels. Flatten it to columns of text.",
        )
    try:
        return _decoder.decode(data)
    except UnicodeDecodeError as error:
        raise ValueFault(
            "JSON", f"The row holds bytes that are not UTF-8: {error.reason}."
        ) from None
    except RecursionError:
        raise ValueFault("DEPTH", "The row is nested too deeply. Flatten it.") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise ValueFault("JSON", _sentence(data, str(error))) from None


def encode(value: Any) -> str:
    """The value as compact JSON text."""
    return msgspec.json.encode(value).decode()


def _sentence(data: bytes, reason: str) -> str:
    if re.search(rb"(?<![\"\w])-?(?:NaN|Infinity)\b", data):
        return "The row is not JSON: NaN and Infinity are no JSON numbers. Write null or a number."
    if data[:1] == b"'" or data[:2] == b"{'":
        return "The row is not JSON: it uses single quotes. Write it with a JSON library."
    reason = reason.removeprefix("JSON is malformed: ")
    return (
        f"The row is not JSON: {reason}. Correct this row, or write the file with a JSON library."
    )
