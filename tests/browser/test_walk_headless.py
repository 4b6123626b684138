"""`manage.py tour` walks a real file through the running product, all ten steps.

It comes after the walk by its name: the walk counts versions and epochs from the first.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.embedded.house import House
from config.embedded.paths import REPOSITORY
from tests.browser import steps

pytestmark = pytest.mark.timeout(1200)


def test_the_tour_ends_with_every_step_done(house: House, tmp_path: Path) -> None:
    file = steps.records_file(tmp_path, steps.OWN + steps.NAMED)
    command = [sys.executable, "manage.py", "tour", str(file), "--contributor-column", "package"]
    ended = subprocess.run(
        [*command, "--format", "json", "--minutes", "15"],
        env={**os.environ, **house.environment}, cwd=REPOSITORY, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    walked = json.loads(ended.stdout)["steps"]
    assert [step["result"] for step in walked] == ["DONE"] * 10
    figures = {step["step"]: step["figures"] for step in walked}
    assert figures[1]["rows_refused"] == 2
    assert figures[4]["loss_after"] < figures[4]["loss_before"]
    claimed = int(figures[9]["balance_after_wei"]) - int(figures[9]["balance_before_wei"])
    assert claimed == int(figures[9]["claimed_wei"]) > 0
    assert figures[10]["before"] != figures[10]["after"]
