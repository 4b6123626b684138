"""Home, search, explorer and the staff page tell what is there, and only what one may see."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from datanets.models import Datanet, Record
from datanets.services import datanets as services
from datanets.services import imports, reviews, versions
from ledger.models import Account, ChainHead
from ledger.services.opening import account_for

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def own_store(settings: Any, tmp_path: Path) -> None:
    settings.STORAGES = settings.STORAGES | {
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / "blobs")},
        }
    }


@pytest.fixture
def owner() -> User:
    return User.objects.create_user("owner@openledger.test", "correct horse battery")


@pytest.fixture
def staff() -> User:
    return User.objects.create_user("staff@openledger.test", "correct horse", is_staff=True)


@pytest.fixture
def draft(owner: User, tmp_path: Path) -> Datanet:
    datanet = services.create_datanet(
        name="Volcano answers", summary="What is known of volcanoes.", licence="CC-BY-4.0",
        description="All of it.", rules="Be right.", acting_user=owner, at=NOON,
    )  # fmt: skip
    path = tmp_path / "rows.jsonl"
    rows = [{"question": "What is magma?", "answer": "Molten rock below the ground."}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    imports.import_file(datanet=datanet, path=path, acting_user=owner, at=NOON)
    reviews.accept_records(datanet=datanet, acting_user=owner, at=NOON)
    versions.publish_version(datanet=datanet, acting_user=owner, at=NOON)
    return datanet


@pytest.fixture
def published(draft: Datanet, owner: User, staff: User) -> Datanet:
    services.request_publication(datanet=draft, acting_user=owner, at=NOON)
    services.approve_publication(datanet=draft, acting_user=staff, at=NOON)
    draft.refresh_from_db()
    return draft


def text(client: Client, path: str) -> str:
    reply = client.get(path, follow=True)
    assert reply.status_code == 200
    return reply.content.decode()


def test_an_empty_house_names_the_next_step(client: Client) -> None:
    home = text(client, "/")
    assert "Create the first one" in home
    assert "0 OPEN" in home


def test_home_shows_what_is_published_and_nothing_else(
    client: Client, draft: Datanet, owner: User, staff: User
) -> None:
    assert draft.name not in text(client, "/")
    services.request_publication(datanet=draft, acting_user=owner, at=NOON)
    services.approve_publication(datanet=draft, acting_user=staff, at=NOON)
    assert draft.name in text(client, "/")


def test_search_finds_by_words_what_one_may_see(client: Client, published: Datanet) -> None:
    assert "Volcano answers" in text(client, "/search/?q=volcanoes")
    assert "What is magma?" in text(client, "/search/?q=molten+rock")
    assert "Nothing that you may see" in text(client, "/search/?q=glaciers")


def test_search_keeps_a_draft_from_strangers(client: Client, draft: Datanet, owner: User) -> None:
    assert "Volcano answers" not in text(client, "/search/?q=volcanoes")
    client.force_login(owner)
    assert "Volcano answers" in text(client, "/search/?q=volcanoes")


def test_a_hash_or_an_id_opens_its_page(client: Client, published: Datanet) -> None:
    record = Record.objects.get()
    version = published.versions.get()
    for handle, page in (
        (version.root, version.get_absolute_url()),
        (f"0x{version.root.upper()}", version.get_absolute_url()),
        (str(version.pk), version.get_absolute_url()),
        (record.content_hash, record.get_absolute_url()),
        (str(record.pk), record.get_absolute_url()),
        (str(published.pk), published.get_absolute_url()),
    ):
        assert client.get("/search/", {"q": handle}).headers["Location"] == page


def test_a_hash_of_a_draft_opens_nothing_for_a_stranger(client: Client, draft: Datanet) -> None:
    root = draft.versions.get().root
    assert "Nothing that you may see" in text(client, f"/search/?q={root}")


def test_the_search_opens_a_balance_for_its_owner_alone(client: Client, owner: User) -> None:
    balance = account_for(Account.Kind.USER, owner.pk)
    assert "Nothing that you may see" in text(client, f"/search/?q={balance.pk}")
    client.force_login(owner)
    found = client.get("/search/", {"q": str(balance.pk)})
    assert found.headers["Location"] == f"/explorer/accounts/{balance.pk}/"


@pytest.mark.parametrize("words", ["", "\0", "'; DROP TABLE", "a" * 5000, '"', "((", "<script>"])
def test_strange_words_break_nothing(client: Client, words: str) -> None:
    assert client.get("/search/", {"q": words}).status_code == 200


def test_the_explorer_lists_public_proofs(client: Client, published: Datanet) -> None:
    assert published.versions.get().root in text(client, "/explorer/")


def test_the_explorer_says_nothing_of_drafts(client: Client, draft: Datanet) -> None:
    assert draft.versions.get().root not in text(client, "/explorer/")


def test_the_staff_page_tells_what_waits(client: Client, draft: Datanet, staff: User) -> None:
    services.request_publication(datanet=draft, acting_user=draft.owner, at=NOON)
    client.force_login(staff)
    page = text(client, "/staff/")
    assert "Datanet waiting for approval" in page
    assert "No worker lives" in page
    assert "datanets.datanet" in page


def test_the_staff_page_tells_why_the_chain_stands_still(client: Client, staff: User) -> None:
    ChainHead.objects.create(
        chain_id=31337, genesis_hash="0x1", number=1, hash="0x2", problem="Another chain answers."
    )
    client.force_login(staff)
    assert "Another chain answers." in text(client, "/staff/")


@pytest.mark.parametrize("path", ["/", "/search/", "/explorer/", "/health/", "/activity/"])
def test_pages_are_for_reading(client: Client, path: str) -> None:
    assert client.get(path).status_code == 200
    assert client.post(path).status_code == 405
