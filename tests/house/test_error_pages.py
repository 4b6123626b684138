"""An error is a page of the house: what happened, what to do, and a way on."""

import pytest
from django.template.loader import render_to_string
from django.test import Client

from accounts.models import User

pytestmark = pytest.mark.django_db


def test_an_unknown_address_says_so(client: Client) -> None:
    reply = client.get("/nowhere/")
    assert reply.status_code == 404
    assert b"Nothing is here" in reply.content
    assert b'href="/"' in reply.content


def test_a_forbidden_page_says_so(client: Client) -> None:
    client.force_login(User.objects.create_user("ada@openledger.test", "correct horse battery"))
    reply = client.get("/staff/")
    assert reply.status_code == 403
    assert b"This is not yours to open" in reply.content


def test_a_stranger_to_the_staff_page_signs_in_first(client: Client) -> None:
    assert client.get("/staff/").headers["Location"].startswith("/accounts/login/")


def test_a_form_without_its_token_is_explained() -> None:
    client = Client(enforce_csrf_checks=True)
    reply = client.post("/accounts/login/", {"login": "a", "password": "b"})
    assert reply.status_code == 403
    assert b"The page was too old" in reply.content


def test_the_page_of_a_fault_needs_nothing_that_may_be_broken() -> None:
    assert "Something broke here" in render_to_string("500.html")
