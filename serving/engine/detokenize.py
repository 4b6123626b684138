"""Text from tokens, piece by piece: no broken characters, no stop string shown. No torch.

A token of a byte-level vocabulary can be half of a UTF-8 character, so tokens cannot be decoded one
by one. For byte-level BPE the bytes behind each token are fed to an incremental decoder, which is
exact and costs the same for each token. Other vocabularies are decoded in a sliding window.
The pieces add up to `Tokenizer.decode(ids, skip_special_tokens=True)`; in the window this holds
for whole characters only, since a vocabulary with byte fallback decodes a broken run as one.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence

from tokenizers import Tokenizer

REPLACEMENT = "\ufffd"


def byte_alphabet() -> dict[str, int]:
    """The 256 printable stand-ins of byte-level BPE (GPT-2's table) -> the byte each stands for."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    rest = (byte for byte in range(256) if byte not in set(printable))
    table.update({chr(0x100 + place): byte for place, byte in enumerate(rest)})
    return table


class Vocabulary:
    """What the streaming decoders need to know of a tokenizer; made once, shared by all."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self.special = frozenset(token for token, entry in added.items() if entry.special)
        self.byte_level = _is_byte_level(tokenizer)
        self._alphabet = byte_alphabet()

    def token_bytes(self, token: int) -> bytes:
        """The bytes of a token of a byte-level vocabulary; none for special or unknown ones."""
        text = None if token in self.special else self.tokenizer.id_to_token(token)
        if text is None:
            return b""
        try:
            return bytes(self._alphabet[character] for character in text)
        except KeyError:
            # An added token that is not special stands in the vocabulary as itself.
            return text.encode()

    def stream(self) -> ByteStream | WindowStream:
        return ByteStream(self) if self.byte_level else WindowStream(self.tokenizer)


def _is_byte_level(tokenizer: Tokenizer) -> bool:
    decoder = json.loads(tokenizer.to_str()).get("decoder") or {}
    return bool(decoder.get("type") == "ByteLevel")


class ByteStream:
    """Streaming decoder for byte-level vocabularies."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        return self._decoder.decode(self._vocabulary.token_bytes(token))

    def flush(self) -> str:
        """What is left of an unfinished character, as U+FFFD."""
        return self._decoder.decode(b"", final=True)


class WindowStream:
    """Streaming decoder for any other vocabulary: decode a window twice, emit the difference."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._start = 0  # where the window begins
        self._shown = 0  # tokens whose text has been emitted

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def push(self, token: int) -> str:
        self._ids.append(token)
        return self._emit(final=False)

    def flush(self) -> str:
        return self._emit(final=True)

    def _emit(self, *, final: bool) -> str:
        before = self._text(self._ids[self._start : self._shown])
        after = self._text(self._ids[self._start :])
        if not final and (len(after) <= len(before) or after.endswith(REPLACEMENT)):
            return ""
        self._start = self._shown
        self._shown = len(self._ids)
        return after[len(before) :]


class StopStrings:
    """Holds back text that may be the beginning of a stop string, cuts at the first whole one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """Add text; returns (text that may be shown, whether a stop string was reached)."""
        if not self._stops:
            return text, False
        self._held += text
        found = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            shown, self._held = self._held[: min(found)], ""
            return shown, True
        keep = self._possible_beginning()
        shown = self._held[: len(self._held) - keep]
        self._held = self._held[len(self._held) - keep :]
        return shown, False

    def flush(self) -> str:
        shown, self._held = self._held, ""
        return shown

    def _possible_beginning(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = min(len(self._held), max(len(stop) for stop in self._stops) - 1)
        for length in range(longest, 0, -1):
            tail = self._held[-length:]
            if any(stop.startswith(tail) for stop in self._stops):
                return length
        return 0
