"""What can be wrong with a file or with one of its rows, in words that say what to do."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One reason why a row cannot become a record.

    row: 1-based; the line of a JSON Lines file, the position in a JSON array, the data row of a
    CSV or Parquet file (the header is not counted). column: the column's name, where one is at
    fault. raw: the start of the row as it was read, for the reject file.
    """

    row: int
    code: str
    message: str
    column: str = ""
    raw: Any = None

    def as_dict(self) -> dict[str, Any]:
        """The fault as plain values, without the raw row."""
        values = asdict(self)
        values.pop("raw")
        return values


class FileFault(Exception):
    """The file as a whole cannot be read.

    code: stable word for programs; message: sentence for the person; offset: byte at fault;
    row: the row where reading stopped, where rows before it are good.
    """

    def __init__(
        self, code: str, message: str, *, offset: int | None = None, row: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.offset = offset
        self.row = row

    def as_fault(self, row: int) -> Fault:
        """The fault as one of a row, where good rows came before it."""
        return Fault(row=self.row or row, code=self.code, message=self.message)


class ValueFault(Exception):
    """A value inside a row is wrong; the caller knows the row's number and adds it."""

    def __init__(self, code: str, message: str, column: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.column = column

    def at(self, row: int, raw: Any = None) -> Fault:
        """The fault with the row's number."""
        return Fault(row=row, code=self.code, message=self.message, column=self.column, raw=raw)
