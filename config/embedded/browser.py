"""A Chromium for the browser tests: from the PATH, else Playwright's own, else Debian's package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from config.embedded.paths import is_root

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALL_SECONDS = 600


def find_chromium() -> Path | None:
    """CHROMIUM, a browser on the PATH, or one that Playwright has installed; None where none is."""
    chosen = os.environ.get("CHROMIUM")
    if chosen:
        return Path(chosen)
    for name in NAMES:
        found = shutil.which(name)
        if found:
            return Path(found)
    return _playwrights_own()


def ensure_chromium() -> Path:
    """Installs one where there is none.

    Raises:
        FileNotFoundError: none could be installed; the message says how to bring one.
    """
    found = find_chromium()
    if found is not None:
        return found
    _try([sys.executable, "-m", "playwright", "install", "chromium"])
    found = find_chromium()
    if found is None and is_root() and shutil.which("apt-get"):
        _try(["apt-get", "update", "-q"])
        _try(["apt-get", "install", "-q", "-y", "--no-install-recommends", "chromium"])
        found = find_chromium()
    if found is None:
        raise FileNotFoundError(
            "No Chromium for the browser tests: put `chromium` on the PATH, name one in CHROMIUM, "
            "or run `.venv/bin/playwright install chromium`."
        )
    return found


def _try(command: list[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        # What it prints goes to standard error: standard output carries the path alone.
        subprocess.run(
            command,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            timeout=INSTALL_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"{command[0]}: {error}\n")


def _playwrights_own() -> Path | None:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as playwright:
        path = Path(playwright.chromium.executable_path)
    return path if path.exists() else None
