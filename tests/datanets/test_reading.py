"""The reading API and the records tab: what a viewer may not see is not there."""

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import User
from datanets.models import Contribution, Datanet, Record
from datanets.selectors import length_histogram, totals
from datanets.services import versions

from .conftest import NOON

Browser = Callable[..., Client]
API = "/api/v1"


def test_a_stranger_reads_what_is_published(
    browser: Browser, accepted: Contribution, owner: User
) -> None:
    version = versions.publish_version(datanet=accepted.datanet, acting_user=owner, at=NOON)
    slug = accepted.datanet.slug
    client = browser()
    listed = client.get(f"{API}/datanets/").json()["results"]
    assert [(item["slug"], item["accepted_count"], item["latest_version"]) for item in listed] == [
        (slug, 6, 1)
    ]
    assert client.get(f"{API}/datanets/{slug}/").json()["licence"] == "CC-BY-4.0"
    records = client.get(f"{API}/datanets/{slug}/records/").json()
    assert records["count"] == 6
    record = client.get(f"{API}/records/{records['results'][0]['id']}/").json()
    assert record["payload"]["messages"][0]["role"] == "user"
    assert client.get(f"{API}/datanets/{slug}/versions/").json()["count"] == 1
    one = client.get(f"{API}/datanets/{slug}/versions/1/").json()
    assert (one["root"], one["manifest_sha256"]) == (version.root, version.manifest_id)


@pytest.mark.parametrize("part", ["", "records/", "versions/", "versions/1/"])
def test_a_draft_is_not_there(
    browser: Browser, draft: Datanet, owner: User, stranger: User, part: str
) -> None:
    url = f"{API}/datanets/{draft.slug}/{part}"
    assert browser().get(url).status_code == 404
    assert browser(stranger).get(url).status_code == 404
    expected = 404 if part == "versions/1/" else 200
    assert browser(owner).get(url).status_code == expected


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_it_only_reads(browser: Browser, published: Datanet, owner: User, method: str) -> None:
    for part in ("datanets/", f"datanets/{published.slug}/", f"datanets/{published.slug}/records/"):
        assert getattr(browser(owner), method)(f"{API}/{part}").status_code == 405


def test_pending_records_are_the_peoples_who_work_on_them(
    browser: Browser, submitted: Contribution, stranger: User, reviewer: User, contributor: User
) -> None:
    url = f"{API}/datanets/{submitted.datanet.slug}/records/?state=PENDING"
    counts = [
        browser(user).get(url).json()["count"] for user in (None, stranger, reviewer, contributor)
    ]
    assert counts == [0, 0, 6, 6]


def test_records_are_searched_by_their_words(browser: Browser, accepted: Contribution) -> None:
    url = reverse("datanets:records", args=[accepted.datanet.slug])

    def found(words: str) -> int:
        return browser().get(url, {"q": words}).context["page"].paginator.count

    assert [found(words) for words in ("item", '"number 3"', "nothing", "item -3", "'; --")] == [
        6, 1, 0, 5, 0
    ]  # fmt: skip


def test_records_are_filtered_by_contributor(
    browser: Browser, accepted: Contribution, contributor: User
) -> None:
    url = reverse("datanets:records", args=[accepted.datanet.slug])
    for handle, count in ((contributor.handle, 6), ("nobody", 0)):
        page = browser().get(url, {"contributor": handle})
        assert page.context["page"].paginator.count == count


def test_every_record_is_in_one_bar(accepted: Contribution) -> None:
    Record.objects.filter(row=1).update(length=5_000)
    bars = length_histogram(Record.objects.all())
    assert sum(bar.count for bar in bars) == 6
    assert bars[-1].low <= 5_000 <= bars[-1].high
    assert bars[0].count == 5


def test_the_home_page_counts_what_is_public(accepted: Contribution) -> None:
    assert totals() == {"datanets": 1, "records": 6, "contributors": 1}
    Datanet.objects.update(state="DRAFT")
    assert totals() == {"datanets": 0, "records": 0, "contributors": 0}


def test_the_same_text_elsewhere_is_shown(
    browser: Browser, accepted: Contribution, owner: User, jsonl: Callable[..., object]
) -> None:
    from datanets.services import datanets, imports, reviews

    from .conftest import ROWS

    other = datanets.create_datanet(
        name="Copy", summary="s", licence="CC0-1.0", acting_user=owner, at=NOON
    )
    imports.import_file(datanet=other, path=jsonl(ROWS[:1]), acting_user=owner, at=NOON)
    copy = Record.objects.get(datanet=other)
    reviews.accept_records(datanet=other, acting_user=owner, at=NOON)
    page = browser(owner).get(copy.get_absolute_url()).content.decode()
    assert "The same text elsewhere" in page
    assert accepted.datanet.name in page
