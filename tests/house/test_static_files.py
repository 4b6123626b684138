"""On a server static files come from one collected folder, under names that carry their hash."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.management import call_command
from django.test import Client

COLLECTED = "whitenoise.storage.CompressedManifestStaticFilesStorage"
HASHED = re.compile(r"\.[0-9a-f]{12}\.(css|js|svg)$")

pytestmark = pytest.mark.django_db


@pytest.fixture
def server(tmp_path: Path, settings: Any) -> Client:
    """A client of the product as the image runs it, with STATIC_FROM_SOURCE=0."""
    settings.STATIC_ROOT = tmp_path
    settings.WHITENOISE_USE_FINDERS = settings.WHITENOISE_AUTOREFRESH = False
    settings.STORAGES = {**settings.STORAGES, "staticfiles": {"BACKEND": COLLECTED}}
    call_command("collectstatic", interactive=False, verbosity=0)
    return Client()


def names_in(page: str) -> set[str]:
    return set(re.findall(r'(?:src|href)="(/static/[^"]+)"', page))


@pytest.mark.parametrize("address", ["/", "/accounts/login/", "/models/", "/nowhere/"])
def test_a_page_names_hashed_files_that_are_there(server: Client, address: str) -> None:
    names = names_in(server.get(address).content.decode())
    assert names
    for name in names:
        assert HASHED.search(name), name
        reply = server.get(name)
        assert reply.status_code == 200, name
        assert "immutable" in reply.headers["Cache-Control"], name


def test_every_template_names_files_that_exist(server: Client, settings: Any) -> None:
    templates = Path(settings.BASE_DIR) / "templates"
    named = {
        name
        for template in templates.rglob("*.html")
        for name in re.findall(r"{% static '([^'{]+)' %}", template.read_text())
    }
    assert len(named) > 10
    for name in named:
        assert staticfiles_storage.url(name).startswith("/static/"), name


def test_the_page_of_a_fault_finds_its_files_by_their_plain_names(
    server: Client, settings: Any
) -> None:
    page = (Path(settings.BASE_DIR) / "templates" / "500.html").read_text()
    for name in names_in(page):
        assert server.get(name).status_code == 200, name


def test_a_script_that_imports_another_finds_it(server: Client) -> None:
    assert server.get("/static/js/transaction.js").status_code == 200


def test_an_icon_is_found_where_browsers_look_for_one(server: Client) -> None:
    reply = server.get("/favicon.ico", follow=True)
    assert HASHED.search(reply.request["PATH_INFO"])
    assert (reply.status_code, reply.headers["Content-Type"]) == (200, "image/svg+xml")
