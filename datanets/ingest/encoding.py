"""Is this file UTF-8? Said strictly, with the byte that breaks it.

Guessing an encoding turns names into mojibake that nobody sees until a model repeats it; so a
file is UTF-8 (a byte order mark is fine) or it is refused with the offset and the line.
"""

import codecs
from pathlib import Path

from datanets.ingest.faults import FileFault

CHUNK = 1 << 20

# UTF-32 LE begins with the bytes of UTF-16 LE, so the longer marks stand first.
FOREIGN_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def require_utf8(path: Path) -> int:
    """Read the file once; return how many bytes its byte order mark takes (0 or 3).

    Raises FileFault with code ENCODING or BINARY and the offset of the first byte at fault.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    offset, lines, mark = 0, 1, 0
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            if offset == 0:
                mark = _leading_mark(chunk)
            _refuse_zero_bytes(chunk, offset, lines)
            carried = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                raise _not_utf8(error, chunk, offset, carried, lines) from None
            offset += len(chunk)
            lines += chunk.count(b"\n")
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise FileFault(
            "ENCODING",
            f"The file ends in the middle of a character (byte {offset}). It was cut short or is "
            "not UTF-8. Save it as UTF-8 and upload it again.",
            offset=offset,
        ) from None
    return mark


def _leading_mark(chunk: bytes) -> int:
    for mark, name in FOREIGN_MARKS:
        if chunk.startswith(mark):
            raise FileFault(
                "ENCODING",
                f"The file is {name} (byte order mark at byte 0). Save it as UTF-8 and upload it "
                "again.",
                offset=0,
            )
    return 3 if chunk.startswith(codecs.BOM_UTF8) else 0


def _refuse_zero_bytes(chunk: bytes, offset: int, lines: int) -> None:
    at = chunk.find(b"\0")
    if at >= 0:
        line = lines + chunk.count(b"\n", 0, at)
        raise FileFault(
            "BINARY",
            f"Byte {offset + at} (line {line}) is a zero byte: this is not a text file, or it is "
            "UTF-16 without a mark. Upload UTF-8 text or Parquet.",
            offset=offset + at,
        )


def _not_utf8(
    error: UnicodeDecodeError, chunk: bytes, offset: int, carried: int, lines: int
) -> FileFault:
    # error.start counts from the bytes that the decoder carried over from the chunk before.
    at = offset + error.start - carried
    line = lines + chunk.count(b"\n", 0, max(0, error.start - carried))
    value = error.object[error.start]
    return FileFault(
        "ENCODING",
        f"Byte {at} (line {line}, value 0x{value:02X}) is not UTF-8. Save the file as UTF-8 and "
        "upload it again.",
        offset=at,
    )
