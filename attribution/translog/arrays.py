"""Integers out of NumPy's own file format, without NumPy."""

from __future__ import annotations

import ast
import struct
import sys
from array import array
from dataclasses import dataclass

TYPES = {"|u1": "B", "|i1": "b", "<u2": "H", "<i2": "h", "<i8": "q"}


class ArrayError(ValueError):
    """The bytes are no array of integers that is read here."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of ``width`` integers each; a flat array has rows of one."""

    rows: int
    width: int
    values: array[int]

    def row(self, place: int) -> array[int]:
        return self.values[place * self.width : (place + 1) * self.width]


def read(data: bytes) -> Table:
    """Raises ArrayError for anything but whole numbers in rows."""
    if data[:6] != b"\x93NUMPY" or len(data) < 12 or data[6] not in (1, 2):
        raise ArrayError("not an array")
    begin = 10 if data[6] == 1 else 12
    (length,) = struct.unpack("<H" if data[6] == 1 else "<I", data[8:begin])
    try:
        header = ast.literal_eval(data[begin : begin + length].decode("latin-1").strip())
        code, shape, is_turned = header["descr"], header["shape"], header["fortran_order"]
    except (ValueError, SyntaxError, KeyError, TypeError) as error:
        raise ArrayError("its header cannot be read") from error
    if code not in TYPES or is_turned or not 1 <= len(shape) <= 2:
        raise ArrayError(f"an array of {code} with shape {shape}")
    rows, width = shape[0], shape[1] if len(shape) == 2 else 1
    values = whole(TYPES[code], data[begin + length :])
    if len(values) != rows * width:
        raise ArrayError("it is truncated")
    return Table(rows, width, values)


def whole(code: str, data: bytes) -> array[int]:
    """Little-endian integers of the type ``code``. Raises ArrayError for a part of one."""
    values = array(code)
    if len(data) % values.itemsize:
        raise ArrayError("it ends within a number")
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def little(values: array[int]) -> bytes:
    """The bytes as they stand in a file, whatever this machine's order."""
    if sys.byteorder == "big":
        values = array(values.typecode, values)
        values.byteswap()
    return values.tobytes()
