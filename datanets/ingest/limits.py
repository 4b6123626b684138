"""How large a file, a row and a column may be before reading stops.

The numbers protect the process that reads: no file makes it hold more than a few rows at once.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Hard limits of one reading; every one is answered with a fault, never with a crash."""

    file_bytes: int = field(default=5_000_000, metadata={"help": "Largest file, in bytes."})
    row_bytes: int = field(default=1_048_576, metadata={"help": "Largest row, in bytes."})
    depth: int = field(default=32, metadata={"help": "Deepest nesting of a JSON value."})
    columns: int = field(default=256, metadata={"help": "Most columns of a row."})
    rows: int = field(default=1_000_000, metadata={"help": "Most rows of a file."})
    text_chars: int = field(default=200_000, metadata={"help": "Longest text of one record."})


DEFAULT_LIMITS = Limits()
