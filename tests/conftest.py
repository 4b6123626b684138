"""What holds for every test of the session."""

import os

import pytest


def pytest_sessionstart(session: pytest.Session) -> None:
    missing = [name for name in ("DATABASE_URL", "REDIS_URL") if name not in os.environ]
    if missing and not session.config.option.collectonly:
        pytest.exit(
            f"{' and '.join(missing)} not set. `make test ARGS=…` starts what tests need for as "
            "long as they run.",
            returncode=4,
        )


@pytest.fixture(autouse=True)
def quick_passwords(settings: object) -> None:
    """Argon2 is slow on purpose, and no test is about its slowness."""
    settings.PASSWORD_HASHERS = [  # type: ignore[attr-defined]
        "django.contrib.auth.hashers.MD5PasswordHasher",
        "django.contrib.auth.hashers.Argon2PasswordHasher",
    ]
