"""Compiling the native step, once for each state of its source and each kind of processor.

`python -m serving.engine.native.build` is part of `make install`. A machine without a compiler, or
one whose compiler fails, serves through PyTorch alone; `OPENLEDGER_NATIVE=0` asks for that.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent
SOURCE = "step.cpp"
VERSION = 2  # of the structures in `layout`; the library says its own
FLAGS = ("-O3", "-std=c++17", "-fPIC", "-shared", "-fno-math-errno", "-Wno-psabi")
# Tried in this order: without OpenMP a step has one thread, without -march it is slower.
CHOICES = (("-march=native", "-fopenmp"), ("-march=native",), ("-mcpu=native", "-fopenmp"), ())
COMPILERS = ("c++", "g++", "clang++")
SECONDS = 180


class NotBuilt(Exception):
    """No compiler, or none that takes the source; the message says which."""


def build() -> Path:
    """The compiled library's path; compiles where it is not there yet. Raises NotBuilt."""
    if os.environ.get("OPENLEDGER_NATIVE") == "0":
        raise NotBuilt("OPENLEDGER_NATIVE=0 asks for PyTorch alone.")
    if sys.byteorder != "little":
        raise NotBuilt("The packed formats are little-endian.")
    for folder in _folders():
        found = folder / name()
        if found.is_file():
            return found
    compiler = next((path for one in COMPILERS if (path := shutil.which(one))), None)
    if compiler is None:
        raise NotBuilt(f"None of {', '.join(COMPILERS)} is installed.")
    for folder in _folders():
        if (made := _compiled_into(folder, compiler)) is not None:
            return made
    raise NotBuilt("No folder for the library can be written.")


@cache
def library() -> ctypes.CDLL | None:
    """The loaded library; None where it cannot be built or is of another version."""
    try:
        found = ctypes.CDLL(str(build()))
    except (NotBuilt, OSError) as reason:
        logger.info("the engine runs through PyTorch alone: %s", reason)
        return None
    found.openledger_engine.restype = ctypes.c_void_p
    found.openledger_close.argtypes = [ctypes.c_void_p]
    found.openledger_close.restype = None
    found.openledger_guard.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    found.openledger_unguard.argtypes = [ctypes.c_void_p]
    found.openledger_unguard.restype = None
    found.openledger_step.argtypes = [ctypes.c_void_p] * 4
    return found if found.openledger_version() == VERSION else None


def name() -> str:
    """Of the source, the flags and the processor: a copied environment builds its own."""
    digest = hashlib.sha256(repr((FLAGS, CHOICES, _processor())).encode())
    for path in sorted([*HERE.glob("*.h"), HERE / SOURCE]):
        digest.update(path.read_bytes())
    return f"engine-{digest.hexdigest()[:20]}.so"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.processor()}"


def _folders() -> list[Path]:
    cached = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [Path(sys.prefix) / "share" / "openledger", cached / "openledger"]


def _compiled_into(folder: Path, compiler: str) -> Path | None:
    """None where the folder cannot be written; raises NotBuilt where the compiler fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            made = Path(work) / "made.so"
            _compile(compiler, made)
            # Two processes may build at once; whoever is last replaces the same bytes.
            return made.replace(folder / name())
    except (PermissionError, FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno != 30:  # a read-only file system
            raise NotBuilt(str(error)) from error
        return None


def _compile(compiler: str, target: Path) -> None:
    said = ""
    for choice in CHOICES:
        command = [compiler, *FLAGS, *choice, "-o", str(target), str(HERE / SOURCE)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise NotBuilt(f"{compiler} took more than {SECONDS} s.") from error
        if done.returncode == 0:
            return
        said = done.stderr.strip()[-500:]
    raise NotBuilt(f"{compiler} refused the source: {said}")


if __name__ == "__main__":
    try:
        sys.stdout.write(f"native engine: {build()}\n")
    except NotBuilt as reason:
        sys.stdout.write(f"native engine: left out ({reason})\n")
