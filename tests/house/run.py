"""`make test`: the checks first, all of them, then pytest. Arguments go to pytest.

The checks take two minutes and tell most of what CI would refuse; where one fails, pytest is not
started. `--checks-only` stops after them, any other argument runs pytest alone.

All tests are two pytests side by side: those that start whole products of their own mostly wait
for them, and the others compute meanwhile.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from config.embedded.browser import ensure_chromium

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

# What a real installation sets: `check --deploy` must find nothing to say about it.
PRODUCTION = {
    "DEBUG": "0",
    "SITE_URL": "https://openledger.example",
    "SECRET_KEY": "a-secret-of-fifty-characters-and-more-9f8e7d6c5b4a3210",
    "ALLOWED_HOSTS": "openledger.example",
    "EMAIL_URL": "smtp://mail.openledger.example:25",
}

# Each starts products with services of their own.
APART = ("tests/browser", "tests/recovery")


@dataclass(frozen=True)
class Check:
    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


def main(arguments: Sequence[str]) -> int:
    only_checks = "--checks-only" in arguments
    if only_checks or not arguments:
        failed = [check.name for check in checks() if not passes(check)]
        if failed:
            sys.stderr.write(f"\nNot well: {', '.join(failed)}\n")
            return 1
    if only_checks:
        return 0
    environment = browser()
    if arguments:
        return run(pytest("pytest", arguments, environment))
    return side_by_side(environment)


def pytest(name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Check:
    return Check(name, [sys.executable, "-m", "pytest", *arguments], environment)


def side_by_side(environment: Mapping[str, str]) -> int:
    """All tests; the output of those apart is shown when both have ended."""
    with tempfile.TemporaryFile("w+") as output:
        apart = pytest("pytest, products", APART, {**environment, **services_apart()})
        process = subprocess.Popen(
            list(apart.command),
            cwd=REPOSITORY,
            env={**os.environ, **apart.environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            ignored = [f"--ignore={folder}" for folder in APART]
            status = run(pytest("pytest", ignored, environment))
            status_apart = process.wait()
        finally:
            process.terminate()
        output.seek(0)
        sys.stderr.write(f"── {apart.name}\n{output.read()}")
    return status or status_apart


def services_apart() -> dict[str, str]:
    """The same servers, another database in each."""
    database, broker = (urlsplit(os.environ[name]) for name in ("DATABASE_URL", "REDIS_URL"))
    return {
        "DATABASE_URL": database._replace(path=f"{database.path}_apart").geturl(),
        "REDIS_URL": broker._replace(path="/1").geturl(),
    }


def browser() -> dict[str, str]:
    """Names a Chromium for the browser tests, which are skipped where none can be had."""
    try:
        return {"CHROMIUM": str(ensure_chromium())}
    except FileNotFoundError as error:
        sys.stderr.write(f"{error}\n")
        return {}


def checks() -> list[Check]:
    templates = sorted(str(path) for path in (REPOSITORY / "templates").rglob("*.html"))
    manage = [sys.executable, "manage.py"]
    return [
        Check("ruff check", [tool("ruff"), "check", "--quiet", "."]),
        Check("ruff format", [tool("ruff"), "format", "--check", "--quiet", "."]),
        Check("djade", [tool("djade"), "--check", *templates]),
        Check("import-linter", [tool("lint-imports"), "--no-logo"]),
        Check("migrations", [*manage, "makemigrations", "--check", "--dry-run"]),
        Check("deployment", [*manage, "check", "--deploy", "--fail-level", "WARNING"], PRODUCTION),
        Check(
            "API schema",
            [*manage, "spectacular", "--validate", "--fail-on-warn", "--file", os.devnull],
        ),
        Check("mypy", [tool("mypy")]),
    ]


def tool(name: str) -> str:
    return str(BIN / name)


def passes(check: Check) -> bool:
    began = time.monotonic()
    code = run(check)
    word = "ok" if code == 0 else f"failed ({code})"
    sys.stderr.write(f"{check.name}: {word}, {time.monotonic() - began:.1f} s\n")
    return code == 0


def run(check: Check) -> int:
    sys.stderr.write(f"── {check.name}\n")
    sys.stderr.flush()
    environment = {**os.environ, **check.environment}
    return subprocess.call(list(check.command), cwd=REPOSITORY, env=environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
