"""How much memory something took at its peak, above what stood before it."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path
from types import TracebackType

_ME = Path("/proc/self")


class Peak:
    """``with Peak() as peak: ...`` and then ``peak.mib``; NaN where the system is not Linux."""

    mib = float("nan")

    def __enter__(self) -> Peak:
        gc.collect()
        try:
            # What was freed and kept for later would hide what comes: it goes back first.
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            (_ME / "clear_refs").write_text("5")  # the peak is counted anew from here
            self._before = _status("VmRSS")
        except OSError:
            self._before = float("nan")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before == self._before:
            self.mib = (_status("VmHWM") - self._before) / 1024


def _status(name: str) -> float:
    """A line of /proc/self/status, in KiB."""
    for line in (_ME / "status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return float(line.split()[1])
    return float("nan")
