"""Named actors and a funded payer."""

import pytest

from tests.ledger.books import OPEN, fund, person


@pytest.fixture
def payer(db):
    user = person("payer")
    fund(user, 10 * OPEN)
    return user


@pytest.fixture
def builder(db):
    return person("builder")


@pytest.fixture
def contributor(db):
    return person("contributor")


@pytest.fixture
def stranger(db):
    return person("stranger")
