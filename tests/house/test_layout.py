"""Rules of the house that no linter holds."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
APPS = (
    "accounts",
    "attribution",
    "config",
    "datanets",
    "governance",
    "ledger",
    "modelfactory",
    "serving",
)
# Each core and the cores that it may use.
CORES = {
    "attribution/translog": (),
    "attribution/spans": ("attribution.translog",),
    "ledger/chain": ("attribution.translog",),
    "datanets/ingest": ("attribution.translog",),
    "modelfactory/training": ("attribution.translog", "datanets.ingest"),
    "attribution/influence": ("attribution.translog", "datanets.ingest", "modelfactory.training"),
    "serving/engine": (
        "attribution.translog",
        "datanets.ingest",
        "modelfactory.training",
        "attribution.influence",
    ),
}
PACKAGE_REGISTRIES = (
    "pypi" + ".org",
    "files.python" + "hosted.org",
    "registry.npm" + "js.org",
    "deb.debian" + ".org",
)


def tracked(*patterns: str) -> list[Path]:
    """Files of the repository that git knows or would add; of the folder where there is no git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    paths = (REPOSITORY / line for line in done.stdout.splitlines())
    return [path for path in paths if path.is_file()]


def test_init_files_are_empty() -> None:
    """A package of models is exempt, since Django finds models through it."""
    full = [
        str(path.relative_to(REPOSITORY))
        for path in tracked("*__init__.py")
        if path.parent.name != "models" and path.read_text().strip()
    ]
    assert full == []


def test_nothing_else_stands_at_the_top() -> None:
    allowed = {*APPS, "templates", "static", "tests", "bench", "docs", ".ci"}
    folders = {
        path.relative_to(REPOSITORY).parts[0]
        for path in tracked()
        if len(path.relative_to(REPOSITORY).parts) > 1
    }
    assert folders - allowed == set()


@pytest.mark.parametrize("core", sorted(CORES))
def test_a_core_uses_no_app_and_only_the_cores_before_it(core: str) -> None:
    own = core.replace("/", ".")
    if not (REPOSITORY / core).exists():
        pytest.skip(f"{own} is not built yet")
    allowed = (own, *CORES[core])
    wrong = [
        f"{path.relative_to(REPOSITORY)}: {name}"
        for path in tracked(f"{core}/*.py", f"{core}/**/*.py")
        for name in imports(path)
        if name.split(".")[0] in APPS and not name.startswith(allowed)
    ]
    assert wrong == []


def imports(path: Path) -> list[str]:
    """The absolute names that a file imports, lazily inside functions too."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def test_views_and_apis_import_no_tasks() -> None:
    reachable = tracked(
        "*views*.py",
        "*api*.py",
        "*urls.py",
        "*admin.py",
        "*forms.py",
        "*services*.py",
        "*selectors*.py",
    )
    wrong = [
        f"{path.relative_to(REPOSITORY)}: {name}"
        for path in reachable
        if "tests" not in path.parts
        for name in imports(path)
        if re.match(rf"({'|'.join(APPS)})\.tasks\b", name)
    ]
    assert wrong == []


def test_no_file_names_a_package_registry() -> None:
    """What pip and npm use is their own setting; a name in a file would overrule a mirror."""
    naming = [
        f"{path.relative_to(REPOSITORY)}: {host}"
        for path in tracked()
        if path.suffix not in {".png", ".safetensors", ".ico", ".woff2", ".parquet"}
        for host in PACKAGE_REGISTRIES
        if host in path.read_text(encoding="utf-8", errors="ignore")
    ]
    assert naming == []


def test_templates_load_nothing_from_elsewhere() -> None:
    wrong = [
        f"{path.relative_to(REPOSITORY)}: {found}"
        for path in tracked("templates/*.html", "templates/**/*.html")
        for found in re.findall(r"""(?:src|action|hx-get)=["']https?://[^"']+""", path.read_text())
    ]
    assert wrong == []


def test_nothing_is_left_to_do_later() -> None:
    marks = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX")) + r")\b")
    marked = [
        str(path.relative_to(REPOSITORY))
        for path in tracked("*.py", "*.html", "*.sol", "*.md", "*.js", "*.css")
        if "vendor" not in path.parts and marks.search(path.read_text())
    ]
    assert marked == []


def test_the_licence_is_apache() -> None:
    text = (REPOSITORY / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
