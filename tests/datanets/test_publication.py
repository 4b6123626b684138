"""A draft is asked for, looked at by staff, published or sent back; each act is told and kept."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEvent, Notification, User
from datanets.errors import DatanetError
from datanets.models import Contribution, Datanet
from datanets.services import datanets as services
from datanets.services import imports

from .conftest import NOON, ROWS, make_person

Browser = Callable[..., Client]


@pytest.fixture
def ready(draft: Datanet, owner: User, jsonl: Any) -> Datanet:
    imports.import_file(datanet=draft, path=jsonl(ROWS), acting_user=owner, at=NOON)
    return draft


def state(datanet: Datanet) -> str:
    return Datanet.objects.get(pk=datanet.pk).state


def test_a_datanet_is_made_in_the_browser(browser: Browser, stranger: User) -> None:
    client = browser(stranger)
    values = {
        "name": "Contributions", "summary": "What it says.", "licence": "CC0-1.0",
        "tags": "One, two ,one", "description": "", "rules": "",
    }  # fmt: skip
    answer = client.post("/datanets/new/", values)
    datanet = Datanet.objects.get()
    assert answer["Location"] == f"/datanets/{datanet.slug}/contribute/"
    # The word is the address of another page, so the slug steps aside.
    assert datanet.slug == "contributions-2"
    assert (datanet.state, datanet.tags, datanet.owner) == ("DRAFT", ["one", "two"], stranger)
    assert AuditEvent.objects.filter(verb="datanet.created").count() == 1


def test_who_loses_the_race_for_a_slug_gets_the_next_one(
    draft: Datanet, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, seen = services._is_slug_taken, list[str]()

    def too_early(slug: str) -> bool:
        seen.append(slug)
        return len(seen) > 1 and look(slug)

    monkeypatch.setattr(services, "_is_slug_taken", too_early)
    made = services.create_datanet(
        name=draft.name, summary="s", licence="CC0-1.0", acting_user=owner, at=NOON
    )
    assert made.slug == f"{draft.slug}-2"
    assert made.memberships.get().user == owner


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", ""), ("name", "x" * 81), ("licence", "BSD"), ("summary", ""),
     ("tags", ",".join("abcdefghijk")), ("tags", "x" * 31)],
)  # fmt: skip
def test_a_form_that_is_wrong_says_where(
    browser: Browser, stranger: User, field: str, value: str
) -> None:
    good = {"name": "A", "summary": "B", "licence": "CC0-1.0"}
    answer = browser(stranger).post("/datanets/new/", {**good, field: value})
    assert answer.status_code == 422
    assert field in answer.context["form"].errors
    assert not Datanet.objects.exists()


def test_the_card_is_edited_and_the_change_is_kept(
    browser: Browser, owner: User, draft: Datanet
) -> None:
    url = reverse("datanets:edit", args=[draft.slug])
    client = browser(owner)
    shown = client.get(url).context["form"].initial
    client.post(url, {**shown, "tags": "items", "summary": "New words."})
    draft.refresh_from_db()
    assert draft.summary == "New words."
    event = AuditEvent.objects.get(verb="datanet.edited")
    assert event.data == {"summary": ["Questions about items.", "New words."]}


def test_what_is_missing_is_said_before_staff_are_asked(draft: Datanet, owner: User) -> None:
    Datanet.objects.update(description="", rules="")
    draft.refresh_from_db()
    with pytest.raises(DatanetError) as caught:
        services.request_publication(datanet=draft, acting_user=owner, at=NOON)
    for part in ("description", "rules", "contribution"):
        assert part in caught.value.message


def test_staff_publish_what_was_asked_for(
    browser: Browser, ready: Datanet, owner: User, staff: User
) -> None:
    browser(owner).post(reverse("datanets:request-publication", args=[ready.slug]))
    assert state(ready) == "IN_REVIEW"
    page = browser(staff).get(reverse("datanets:moderation"))
    assert ready.name in page.content.decode()
    browser(staff).post(reverse("datanets:approve", args=[ready.pk]))
    assert state(ready) == "PUBLISHED"
    assert Notification.objects.filter(user=owner, kind="datanets.published").exists()
    listed = browser().get("/datanets/").context["page"].object_list
    assert [datanet.pk for datanet in listed] == [ready.pk]
    verbs = list(AuditEvent.objects.values_list("verb", flat=True))
    assert verbs.count("datanet.in_review") == verbs.count("datanet.published") == 1


def test_all_staff_hear_of_what_waits_for_publication(
    ready: Datanet, owner: User, staff: User
) -> None:
    second = make_person("second", is_staff=True)
    make_person("gone", is_staff=True, is_active=False)
    services.request_publication(datanet=ready, acting_user=owner, at=NOON)
    told = Notification.objects.filter(kind="datanets.publication_requested")
    assert {notice.user for notice in told} == {staff, second}
    assert all(ready.name in notice.title for notice in told)


def test_staff_send_back_with_a_reason_that_the_owner_reads(
    browser: Browser, ready: Datanet, owner: User, staff: User
) -> None:
    services.request_publication(datanet=ready, acting_user=owner, at=NOON)
    url = reverse("datanets:send-back", args=[ready.pk])
    browser(staff).post(url, {"statement": "  "})
    assert state(ready) == "IN_REVIEW"
    browser(staff).post(url, {"statement": "Name your source."})
    assert state(ready) == "DRAFT"
    assert Notification.objects.get(kind="datanets.sent_back").body == "Name your source."
    assert "Name your source." in browser(owner).get(ready.get_absolute_url()).content.decode()
    services.request_publication(datanet=ready, acting_user=owner, at=NOON)
    assert state(ready) == "IN_REVIEW"


def test_nothing_is_published_twice_or_unasked(ready: Datanet, staff: User, owner: User) -> None:
    with pytest.raises(DatanetError):
        services.approve_publication(datanet=ready, acting_user=staff, at=NOON)
    with pytest.raises(PermissionDenied):
        services.approve_publication(datanet=ready, acting_user=owner, at=NOON)
    services.request_publication(datanet=ready, acting_user=owner, at=NOON)
    with pytest.raises(DatanetError):
        services.request_publication(datanet=ready, acting_user=owner, at=NOON)


def test_roles_are_given_once_and_the_owner_stays(
    draft: Datanet, owner: User, stranger: User, submitted: Contribution
) -> None:
    for _ in range(2):
        services.add_member(
            datanet=draft, user=stranger, role="BUILDER", acting_user=owner, at=NOON
        )
    assert draft.memberships.filter(user=stranger).count() == 1
    assert Notification.objects.filter(user=stranger).count() == 1
    with pytest.raises(DatanetError):
        services.remove_member(
            membership=draft.memberships.get(role="OWNER"), acting_user=owner, at=NOON
        )
    with pytest.raises(DatanetError):
        services.add_member(datanet=draft, user=stranger, role="OWNER", acting_user=owner, at=NOON)


def test_the_list_is_searched_and_filtered(browser: Browser, published: Datanet) -> None:
    def found(query: str) -> int:
        return len(browser().get(f"/datanets/?{query}").context["page"].object_list)

    assert [found(q) for q in ("q=world", "q=ITEMS", "q=none", "tag=items", "tag=other",
                               "licence=CC-BY-4.0", "licence=MIT", "page=99")] == [
        1, 1, 0, 1, 0, 1, 0, 1
    ]  # fmt: skip
