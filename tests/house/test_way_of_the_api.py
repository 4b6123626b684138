"""A request to the OpenAI-compatible API passes one middleware of ours; a page passes them all."""

import logging

import pytest
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.test import AsyncClient, Client
from django.utils.module_loading import import_string

from accounts.middleware import POLICY

API = ["config.middleware.ShortWayForApi"]
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@pytest.fixture
def passed(monkeypatch):
    """The middlewares that requests have passed, in their order."""
    called = []

    def noted(path: str):
        def factory(get_response):
            middleware = import_string(path)(get_response)
            return lambda request: called.append(path) or middleware(request)

        return factory

    monkeypatch.setattr("django.core.handlers.base.import_string", noted)
    return called


@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/v1/nothing/here"])
def test_the_api_passes_one_middleware(client, db, passed, path):
    assert client.get(path).status_code in (401, 405)
    assert passed == API


@pytest.mark.parametrize("path", ["/health/", "/api/v1/status/", "/v1/", "/v1", "/v10/models"])
def test_whatever_else_there_is_or_is_not_passes_all(client, db, passed, path):
    client.get(path)
    assert passed == settings.MIDDLEWARE


def test_an_answer_of_the_api_has_the_headers_of_a_page(client, db):
    for path in ("/v1/models", "/deployments/"):
        response = client.get(path)
        assert {name: response.headers.get(name) for name in HEADERS} == HEADERS
        assert int(response["Content-Length"]) == len(response.content)


async def asked(path: str) -> tuple[int, dict[str, str]]:
    """Status and headers from the web process's own handler."""
    from config.asgi import Handler

    scope = {"type": "http", "method": "GET", "path": path, "headers": [(b"host", b"localhost")]}
    to_it = ApplicationCommunicator(Handler(), scope)
    await to_it.send_input({"type": "http.request", "body": b""})
    begun = await to_it.receive_output(20)
    await to_it.receive_output(20)
    await to_it.wait(20)
    return begun["status"], {name.decode(): value.decode() for name, value in begun["headers"]}


async def test_in_the_web_process_the_api_passes_none_that_is_for_pages(passed):
    status, headers = await asked("/v1/models")
    assert (status, passed) == (401, [])
    assert HEADERS.items() <= headers.items()
    assert "Set-Cookie" not in headers


@pytest.mark.django_db(transaction=True)
async def test_in_the_web_process_a_page_passes_all(passed):
    assert (await asked("/v1/"))[0] == 404
    assert passed == settings.MIDDLEWARE


def test_the_api_knows_no_session_and_sets_no_cookie(client, db, django_user_model):
    client.force_login(django_user_model.objects.create_user("ada@openledger.test", "x"))
    response = client.get("/v1/models")
    assert response.status_code == 401
    assert not hasattr(response.wsgi_request, "session")
    assert not hasattr(response.wsgi_request, "user")
    assert response.cookies == {}
    assert "Cookie" not in response.headers.get("Vary", "")


def test_the_api_asks_for_no_token_of_a_form(db):
    response = Client(enforce_csrf_checks=True).post("/v1/completions", "{}", "application/json")
    assert response.status_code == 401


def test_a_key_never_goes_on_without_tls(client, db, settings):
    settings.SECURE_SSL_REDIRECT, settings.SECURE_HSTS_SECONDS = True, 60
    response = client.post("/v1/completions", "{}", content_type="application/json")
    assert (response.status_code, response["Location"][:8]) == (301, "https://")
    response = client.get("/v1/models", secure=True)
    assert (response.status_code, response["Strict-Transport-Security"][:10]) == (401, "max-age=60")


def test_an_unknown_host_is_refused(client, settings):
    settings.ALLOWED_HOSTS = ["openledger.test"]
    response = client.get("/v1/models", headers={"host": "elsewhere.test"})
    assert response.status_code == 400
    assert HEADERS.items() <= response.headers.items()


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_a_fault_is_an_answer_with_the_same_headers(kind, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr("serving.openai_api.views._admit", broken)
    client = kind(raise_request_exception=False)
    with caplog.at_level(logging.CRITICAL, "django.request"):
        if kind is AsyncClient:
            response = await client.get("/v1/models")
        else:
            from asgiref.sync import sync_to_async

            response = await sync_to_async(client.get)("/v1/models")
    assert response.status_code == 500
    assert HEADERS.items() <= response.headers.items()
