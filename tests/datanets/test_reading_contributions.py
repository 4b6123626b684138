"""By API one reads one's own contributions and verdicts, and a stranger reads none."""

from django.test import Client

from accounts import notifications
from accounts.models import User
from datanets.models import Contribution
from tests.datanets.conftest import NOON

LIST = "/api/v1/contributions/"


def test_one_reads_one_s_own(client: Client, submitted: Contribution, stranger: User):
    client.force_login(submitted.submitter)
    assert [row["id"] for row in client.get(LIST).json()["results"]] == [str(submitted.pk)]
    assert client.get(f"{LIST}{submitted.pk}/").json()["state"] == "SUBMITTED"
    assert client.get(f"{LIST}{submitted.pk}/reviews/").status_code == 200
    client.force_login(stranger)
    assert client.get(LIST).json()["results"] == []
    assert client.get(f"{LIST}{submitted.pk}/").status_code == 404
    assert client.get(f"{LIST}{submitted.pk}/reviews/").status_code == 404


def test_nobody_in_particular_is_refused(client: Client, submitted: Contribution):
    assert client.get(LIST).status_code in (401, 403)
    assert client.get("/api/v1/notifications/").status_code in (401, 403)


def test_notifications_are_one_s_own(client: Client, owner: User, stranger: User):
    notifications.notify(user=owner, kind="test", title="For the owner", at=NOON)
    client.force_login(owner)
    titles = [row["title"] for row in client.get("/api/v1/notifications/").json()["results"]]
    assert titles == ["For the owner"]
    client.force_login(stranger)
    assert client.get("/api/v1/notifications/").json()["results"] == []
