"""A key opens the API until it expires or is revoked, and is never kept in the clear."""

from datetime import UTC, datetime, timedelta

import pytest

from accounts import api_keys
from accounts.models import ApiKey, AuditEvent, User

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada@openledger.test", "correct horse battery")


@pytest.mark.django_db
def test_the_secret_opens_and_is_not_kept(ada: User) -> None:
    key, secret = api_keys.create_key(user=ada, name="laptop", acting_user=ada, at=NOON)
    assert api_keys.authenticate(secret, at=NOON) == key
    stored = ApiKey.objects.values().get()
    assert secret not in str(stored)
    assert secret.startswith(key.prefix)
    assert AuditEvent.objects.get().verb == "api_key.created"


@pytest.mark.django_db
@pytest.mark.parametrize("raw", ["", "olk_", "olk_" + "x" * 40, "Bearer", "olk_" + "y" * 1000])
def test_a_stranger_s_key_opens_nothing(raw: str) -> None:
    assert api_keys.authenticate(raw, at=NOON) is None


@pytest.mark.django_db
def test_a_revoked_key_opens_nothing_more(ada: User) -> None:
    key, secret = api_keys.create_key(user=ada, name="laptop", acting_user=ada, at=NOON)
    api_keys.revoke_key(key=key, acting_user=ada, at=NOON)
    assert api_keys.authenticate(secret, at=NOON) is None
    api_keys.revoke_key(key=key, acting_user=ada, at=NOON)
    assert AuditEvent.objects.filter(verb="api_key.revoked").count() == 1


@pytest.mark.django_db
def test_an_expired_key_opens_nothing_more(ada: User) -> None:
    _, secret = api_keys.create_key(
        user=ada, name="laptop", acting_user=ada, at=NOON, expires_at=NOON + timedelta(hours=1)
    )
    assert api_keys.authenticate(secret, at=NOON) is not None
    assert api_keys.authenticate(secret, at=NOON + timedelta(hours=1)) is None


@pytest.mark.django_db
def test_a_locked_out_person_s_key_opens_nothing(ada: User) -> None:
    _, secret = api_keys.create_key(user=ada, name="laptop", acting_user=ada, at=NOON)
    User.objects.update(is_active=False)
    assert api_keys.authenticate(secret, at=NOON) is None
