"""The parts of the core that the web process uses bring no torch with them."""

import subprocess
import sys

import pytest

MODULES = ["prompts", "recipe", "data", "estimate", "bases", "job"]


@pytest.mark.parametrize("module", MODULES)
def test_it_imports_without_torch(module):
    code = (
        f"import sys, modelfactory.training.{module}; "
        "sys.exit(bool({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
