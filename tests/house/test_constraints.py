"""constraints.txt pins everything, for any build of torch, on Python 3.11 and 3.12."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[2]


def lines() -> list[str]:
    text = (REPOSITORY / "constraints.txt").read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def pins() -> dict[str, Version]:
    found = {}
    for line in lines():
        requirement = Requirement(line)
        (clause,) = requirement.specifier
        assert clause.operator == "==", line
        found[canonicalize_name(requirement.name)] = Version(clause.version)
    return found


def declared() -> list[Requirement]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    groups = project["optional-dependencies"].values()
    return [Requirement(text) for group in (project["dependencies"], *groups) for text in group]


def test_no_pin_has_a_local_version_label() -> None:
    """`torch==2.13.0+cpu` could be had from one index only, and never with CUDA."""
    assert [line for line in lines() if "+" in line] == []


def test_no_pin_has_a_hash_or_a_place() -> None:
    assert [line for line in lines() if re.search(r"--hash|@|/|^-", line)] == []


def test_torch_is_the_one_that_figures_were_measured_with() -> None:
    assert pins()["torch"] == Version("2.13.0")


def test_every_declared_dependency_is_pinned_within_its_range() -> None:
    pinned = pins()
    for requirement in declared():
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{name} is not in constraints.txt"
        assert requirement.specifier.contains(pinned[name]), str(requirement)
