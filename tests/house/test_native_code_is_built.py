"""Where a compiler is, both native parts are built: tests that need one are skipped for its want
alone, never for a fault in our source."""

import os
import shutil
import sys

import pytest

from attribution.influence import native
from serving.engine.native import build

pytestmark = pytest.mark.skipif(
    os.environ.get("OPENLEDGER_NATIVE") == "0" or sys.byteorder != "little",
    reason="native code is switched off",
)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_sketches_are_read_by_the_kernel_in_c() -> None:
    assert native.kernel() is not None
    assert native.paths() is not None


@pytest.mark.skipif(not any(map(shutil.which, build.COMPILERS)), reason="no C++ compiler")
def test_the_engine_steps_by_the_library_in_cpp() -> None:
    assert build.library() is not None
