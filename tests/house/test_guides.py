"""What the guides point at exists."""

import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
GUIDES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_relative_link_leads_somewhere(guide: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", guide.read_text())
    dead = [
        link
        for link in links
        if not link.startswith(("http://", "https://", "mailto:"))
        and not (guide.parent / link).exists()
    ]
    assert dead == []


def test_the_readme_names_commands_that_exist() -> None:
    done = subprocess.run(
        ["make", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    targets = set(re.findall(r"^make (\w+)", done.stdout, re.MULTILINE)) - {"help"}
    assert {"install", "demo", "test", "tour", "bench", "lint", "clean"} == targets
    named = set(re.findall(r"^make (\w+)", (REPOSITORY / "README.md").read_text(), re.MULTILINE))
    assert named <= targets


def test_every_decision_says_what_and_why() -> None:
    decisions = sorted((REPOSITORY / "docs" / "decisions").glob("*.md"))
    for number, path in enumerate(decisions, start=1):
        text = path.read_text()
        assert path.name.startswith(f"{number:04d}-"), path.name
        assert text.startswith(f"# {number}. ")
        assert "**Decision.**" in text
        assert "**Why.**" in text


def test_ci_runs_what_everybody_runs() -> None:
    script = (REPOSITORY / ".ci" / "run").read_text()
    assert "make test" in script
