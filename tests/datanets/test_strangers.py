"""Every address, tried by nobody, a stranger, who may read, who may act; and wrong methods."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Notification, User
from datanets.models import Contribution, Datanet, Membership, Record, Report, Upload, Version
from datanets.services import moderation, uploads, versions
from datanets.urls import urlpatterns

from .conftest import NOON

Browser = Callable[..., Client]
LOGIN = "/accounts/login/"

# name: (status for nobody, for a stranger, for the reviewer, for the owner); 302 goes to login.
SEEN_ON_DRAFT = {
    "card": (404, 404, 200, 200),
    "records": (404, 404, 200, 200),
    "versions": (404, 404, 200, 200),
    "people": (404, 404, 200, 200),
    "stakes": (404, 404, 200, 200),
    "edit": (404, 404, 403, 200),
    "review": (404, 404, 200, 200),
    "contribute": (404, 404, 200, 200),
}
SEEN_WHEN_PUBLISHED = {
    "card": (200, 200, 200, 200),
    "records": (200, 200, 200, 200),
    "versions": (200, 200, 200, 200),
    "people": (200, 200, 200, 200),
    "stakes": (200, 200, 200, 200),
    "edit": (302, 403, 403, 200),
    "review": (302, 403, 200, 200),
    "contribute": (302, 200, 200, 200),
}
# What only takes POST: (nobody, stranger), both without effect.
POSTED = {
    "request-publication": (302, 403),
    "publish-version": (302, 403),
    "review-all": (302, 403),
    "review-undo": (302, 403),
    "pay-out": (302, 403),
}


@pytest.fixture
def browsers(
    browser: Browser, stranger: User, reviewer: User, owner: User
) -> tuple[Client, Client, Client, Client]:
    return browser(), browser(stranger), browser(reviewer), browser(owner)


@pytest.mark.parametrize("name", SEEN_ON_DRAFT)
def test_a_draft_is_seen_by_members_alone(name: str, draft: Datanet, browsers: Any) -> None:
    url = reverse(f"datanets:{name}", args=[draft.slug])
    assert tuple(b.get(url).status_code for b in browsers) == SEEN_ON_DRAFT[name]
    assert all(b.delete(url).status_code in (403, 404, 405, 302) for b in browsers)


@pytest.mark.parametrize("name", SEEN_WHEN_PUBLISHED)
def test_a_published_datanet_is_read_by_all_and_worked_on_by_members(
    name: str, published: Datanet, browsers: Any
) -> None:
    url = reverse(f"datanets:{name}", args=[published.slug])
    assert tuple(b.get(url).status_code for b in browsers) == SEEN_WHEN_PUBLISHED[name]
    assert browsers[3].put(url).status_code == 405


@pytest.mark.parametrize("name", POSTED)
def test_a_stranger_changes_nothing(
    name: str, published: Datanet, submitted: Contribution, browsers: Any
) -> None:
    url = reverse(f"datanets:{name}", args=[published.slug])
    assert tuple(b.post(url, {"verdict": "ACCEPTED", "sure": "yes"}).status_code
                 for b in browsers[:2]) == POSTED[name]  # fmt: skip
    assert browsers[3].get(url).status_code == 405
    assert not Record.objects.exclude(state="PENDING").exists()
    assert not Version.objects.exists()


def test_the_lists_are_open_and_ones_own_pages_need_a_login(browsers: Any) -> None:
    nobody, someone, *_ = browsers
    assert nobody.get("/datanets/").status_code == 200
    for url in ("/datanets/new/", "/datanets/contributions/"):
        assert nobody.get(url)["Location"].startswith(LOGIN)
        assert someone.get(url).status_code == 200
    assert nobody.post("/datanets/").status_code == 405
    assert someone.post("/datanets/contributions/").status_code == 405


def test_a_contribution_is_its_submitters_and_the_reviewers_to_see(
    submitted: Contribution, contributor: User, browser: Browser, browsers: Any
) -> None:
    url = submitted.get_absolute_url()
    nobody, someone, reviewer, owner = browsers
    assert nobody.get(url)["Location"].startswith(LOGIN)
    assert [b.get(url).status_code for b in (someone, reviewer, owner)] == [404, 200, 200]
    assert browser(contributor).get(url).status_code == 200
    assert browser(contributor).post(url).status_code == 405
    for step in ("mapping/", "submit/", "discard/", "retry/"):
        assert nobody.post(url + step)["Location"].startswith(LOGIN)
        assert [b.post(url + step).status_code for b in (someone, reviewer)] == [404, 404]
        assert browser(contributor).get(url + step).status_code == 405
    for file in ("refused.csv", "refused.jsonl"):
        assert [b.get(url + file).status_code for b in (someone, reviewer)] == [404, 404]
        assert browser(contributor).get(url + file).status_code == 404


def test_a_pending_record_is_hidden_from_strangers(
    submitted: Contribution, contributor: User, browser: Browser, browsers: Any
) -> None:
    record = Record.objects.first()
    url = record.get_absolute_url()
    assert [b.get(url).status_code for b in browsers] == [404, 404, 200, 200]
    assert browser(contributor).get(url).status_code == 200


def test_an_accepted_record_is_public_and_acted_on_by_its_people(
    accepted: Contribution, browsers: Any
) -> None:
    record = Record.objects.first()
    url = record.get_absolute_url()
    nobody, someone, *_ = browsers
    assert [b.get(url).status_code for b in browsers] == [200] * 4
    assert nobody.post(url).status_code == 405
    for step in ("withdraw/", "remove/", "report/"):
        assert nobody.post(url + step)["Location"].startswith(LOGIN)
        assert someone.get(url + step).status_code == 405
    assert someone.post(url + "withdraw/").status_code == 403
    assert someone.post(url + "remove/", {"reason": "WRONG"}).status_code == 403
    record.refresh_from_db()
    assert record.state == "ACCEPTED"


def test_a_versions_files_are_as_public_as_its_datanet(
    accepted: Contribution, owner: User, browsers: Any
) -> None:
    version = versions.publish_version(datanet=accepted.datanet, acting_user=owner, at=NOON)
    url = version.get_absolute_url()
    for address in (url, url + "manifest.json", url + "records.jsonl"):
        assert [b.get(address).status_code for b in browsers] == [200] * 4
        assert browsers[0].post(address).status_code == 405
        Datanet.objects.update(state="DRAFT")
        assert [b.get(address).status_code for b in browsers] == [404, 404, 200, 200]
        Datanet.objects.update(state="PUBLISHED")


def test_only_the_owner_gives_and_takes_roles(
    published: Datanet, stranger: User, browsers: Any
) -> None:
    url = reverse("datanets:people", args=[published.slug])
    nobody, someone, reviewer, owner = browsers
    values = {"person": stranger.handle, "role": "REVIEWER"}
    assert nobody.post(url, values).status_code == 302
    assert [b.post(url, values).status_code for b in (someone, reviewer)] == [403, 403]
    assert owner.post(url, values).status_code == 302
    membership = Membership.objects.get(user=stranger)
    take = reverse("datanets:remove-member", args=[published.slug, membership.pk])
    assert nobody.post(take).status_code == 302
    assert reviewer.post(take).status_code == 403
    assert owner.get(take).status_code == 405
    assert owner.post(take).status_code == 302
    assert not Membership.objects.filter(user=stranger).exists()


@pytest.mark.parametrize("role", ["REVIEWER", "BUILDER", "CONTRIBUTOR"])
def test_giving_a_role_by_email_does_not_say_who_has_the_address(
    published: Datanet, stranger: User, browsers: Any, role: str
) -> None:
    User.objects.filter(pk=stranger.pk).update(display_name="Zoe Stranger")
    url = reverse("datanets:people", args=[published.slug])
    said = []
    for address in ("nobody@openledger.test", " Stranger@openledger.test"):
        answer = browsers[3].post(url, {"person": address, "role": role}, follow=True)
        assert answer.redirect_chain == [(url, 302)]
        said.append([str(message) for message in answer.context["messages"]])
    assert said[0] == said[1]
    assert "If somebody has this address" in said[0][0]
    assert Membership.objects.get(user=stranger).role == role
    assert Notification.objects.get(user=stranger).kind == "datanets.role_given"


def test_a_wrong_handle_is_named(published: Datanet, browsers: Any) -> None:
    url = reverse("datanets:people", args=[published.slug])
    answer = browsers[3].post(url, {"person": "nobody", "role": "REVIEWER"})
    assert answer.status_code == 422
    assert "person" in answer.context["form"].errors


def test_moderation_is_for_staff(
    accepted: Contribution, stranger: User, staff: User, browser: Browser, browsers: Any
) -> None:
    datanet, record = accepted.datanet, Record.objects.first()
    report = moderation.report(
        datanet=datanet, reason="SPAM", text="", acting_user=stranger, at=NOON
    )
    posts = [
        reverse("datanets:approve", args=[datanet.pk]),
        reverse("datanets:send-back", args=[datanet.pk]),
        reverse("datanets:take-down", args=[datanet.pk]),
        reverse("datanets:take-down-record", args=[record.pk]),
        reverse("datanets:resolve-report", args=[report.pk]),
    ]
    nobody, *members = browsers
    page = reverse("datanets:moderation")
    assert nobody.get(page)["Location"].startswith(LOGIN)
    assert [b.get(page).status_code for b in members] == [403, 403, 403]
    assert browser(staff).get(page).status_code == 200
    for url in posts:
        assert nobody.post(url)["Location"].startswith(LOGIN)
        assert [b.post(url, {"statement": "no"}).status_code for b in members] == [403] * 3
        assert browser(staff).get(url).status_code == 405
    datanet.refresh_from_db()
    record.refresh_from_db()
    assert (datanet.state, record.state) == ("PUBLISHED", "ACCEPTED")
    assert Report.objects.get().state == "OPEN"


def test_an_upload_answers_to_its_owner_alone(
    published: Datanet, contributor: User, browser: Browser, browsers: Any
) -> None:
    upload = uploads.start_upload(
        datanet=published, name="a.jsonl", size=10, acting_user=contributor, at=NOON
    )
    Upload.objects.update(expires_at="2100-01-01T00:00Z")
    url = reverse("datanets:upload", args=[upload.pk])
    tus = {"Tus-Resumable": "1.0.0"}
    assert [b.head(url, headers=tus).status_code for b in browsers] == [401, 404, 404, 404]
    assert [b.delete(url, headers=tus).status_code for b in browsers] == [401, 404, 404, 404]
    assert browser(contributor).head(url, headers=tus).status_code == 200
    assert browser(contributor).get(url, headers=tus).status_code == 405
    create = reverse("datanets:uploads", args=[published.slug])
    assert browsers[0].post(create, headers=tus).status_code == 302
    assert browsers[1].get(create).status_code == 405
    throw = reverse("datanets:discard-upload", args=[published.slug, upload.pk])
    browsers[1].post(throw)
    assert Upload.objects.get().state == "OPEN"
    assert browser(contributor).get(throw).status_code == 405


def test_no_address_was_forgotten() -> None:
    """A new address fails here until it is named in this file."""
    from pathlib import Path

    known = {*SEEN_ON_DRAFT, *POSTED}
    text = (
        Path(__file__).read_text() + "index create my-contributions contribution set-mapping retry "
    )
    text += "submit discard refused-csv refused-jsonl record withdraw-record remove-record "
    # Stakes and slashes: test_slashing.py.
    text += "slash appeal-slash withdraw-slash decide-slash propose-slash withdraw-contribution "
    text += "report-record review-record report version manifest records-file derive"
    names: set[str] = set()
    for pattern in urlpatterns:
        inner = getattr(pattern, "url_patterns", [pattern])
        names |= {item.name for item in inner if item.name}
    assert {name for name in names if name not in known and name not in text} == set()
