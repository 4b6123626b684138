"""The whole product on services of its own, and people with browsers in front of it."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.embedded.browser import find_chromium
from config.embedded.house import House
from config.embedded.temporary import temporary_folder
from config.sample.people import PASSWORD

CHROMIUM = find_chromium()
# Somebody's own services must not be walked on; what the test starts it stops.
GIVEN = ("DATABASE_URL", "REDIS_URL", "CHAIN_RPC_URL", "DATA_DIR", "SITE_URL", "PORT")
PATIENCE_MS = 30_000


@pytest.fixture(scope="package")
def house() -> Iterator[House]:
    """Everything that `make demo` starts, with its logins and sample, on a folder of its own."""
    environ = {key: value for key, value in os.environ.items() if key not in GIVEN}
    environ |= {"DISTRIBUTION_SECONDS": "10", "PORT": "8765"}
    with temporary_folder() as folder:
        house = House(folder, say=print, environ=environ)
        house.lock()
        try:
            house.start_foundations()
            house.prepare()
            house.manage("seed_demo")
            house.start_processes()
            house.wait_for_web()
            yield house
        finally:
            house.close()


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        # The walk is the main proof; where a machine decides, it must not be left out in silence.
        give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        give_up("no Chromium on this machine; `make install` names the package")
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=flags)
        yield browser
        browser.close()


class Cast:
    """The people of the walk, each with a browser window of their own."""

    def __init__(self, browser: Any, house: House) -> None:
        self.address = house.address
        self.rpc_url = house.environment["CHAIN_RPC_URL"]
        self._browser = browser
        self._pages: dict[str, Any] = {}
        self.problems: list[str] = []

    def page(self, handle: str) -> Any:
        """The person's page, signed in."""
        if handle not in self._pages:
            context = self._browser.new_context(
                base_url=self.address, viewport={"width": 1200, "height": 900}
            )
            context.set_default_timeout(PATIENCE_MS)
            page = context.new_page()
            page.on("pageerror", lambda error: self.problems.append(f"{handle}: {error}"))
            page.on("console", lambda message: self._hear(handle, message))
            self._sign_in(page, handle)
            self._pages[handle] = page
        return self._pages[handle]

    def _sign_in(self, page: Any, handle: str) -> None:
        page.goto("/accounts/login/")
        page.get_by_label("Email").fill(f"{handle}@openledger.test")
        page.get_by_label("Password").first.fill(PASSWORD)
        page.get_by_role("button", name=re.compile("^Sign in")).first.click()
        page.wait_for_url(lambda url: "/login/" not in url)

    def _hear(self, handle: str, message: Any) -> None:
        url = message.location.get("url", "")
        # A page asks for a transaction until the mirror has it, and Chromium names each 404.
        if message.type == "error" and "/api/v1/transactions/" not in url:
            self.problems.append(f"{handle}: {message.text} {url}")


@pytest.fixture(scope="package")
def cast(browser: Any, house: House) -> Cast:
    return Cast(browser, house)


@pytest.fixture
def picture(tmp_path: Path) -> Any:
    """Keeps a screenshot; SCREENSHOTS names the folder, as `docs/screenshots` for the guides."""
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def take(page: Any, name: str) -> None:
        page.screenshot(path=folder / f"{name}.png", full_page=True)

    return take
