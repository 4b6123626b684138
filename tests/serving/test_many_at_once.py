"""However many ask at once, a balance and a key's cap carry what they carry and no more."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.utils import timezone

from accounts import api_keys, key_spending
from accounts.api_keys import Limits
from ledger.models import Account
from serving.errors import KeyCapReached, NoBalance
from serving.models import Completion
from serving.questions import Question, Sampling
from serving.services import completions
from tests.ledger.books import balance_of, fund, person

pytestmark = pytest.mark.django_db(transaction=True)
HELLO = Question.chat("What is a Datanet?")
THREADS = 8


def outcomes(tuned, payer, key, calls: int) -> Counter[str]:
    """What `calls` requests come to, eight at a time, each on a connection of its thread."""
    now = timezone.now()  # the worker's sign of life may be old when the last one asks

    def ask(_: int) -> str:
        try:
            completions.start_completion(
                deployment=tuned,
                question=HELLO,
                sampling=Sampling(max_tokens=1),
                payer=payer,
                api_key=key,
                acting_user=payer,
                at=now,
            )
        except (NoBalance, KeyCapReached) as refused:
            return type(refused).__name__
        finally:
            connection.close()
        return "held"

    with ThreadPoolExecutor(THREADS) as pool:
        return Counter(pool.map(ask, range(calls)))


@pytest.fixture
def key():
    user = person("poor")
    return api_keys.create_key(user=user, name="x", acting_user=user, at=timezone.now())[0]


@pytest.fixture
def price(tuned) -> int:
    return completions.quote(deployment=tuned, question=HELLO, max_tokens=1).highest_fee


def test_a_thousand_calls_on_a_balance_for_ten_hold_ten(tuned, key, price):
    fund(key.user, price * 10)
    assert outcomes(tuned, key.user, key, 1_000) == {"held": 10, "NoBalance": 990}
    assert Completion.objects.count() == 10
    assert balance_of(Account.Kind.USER, key.user.pk) == 0
    assert balance_of(Account.Kind.HOLD, key.user.pk) == 10 * price
    assert key_spending.spent([key], timezone.now()) == {key.pk: 10 * price}


def test_a_key_s_cap_holds_for_all_that_ask_at_once(tuned, key, price):
    fund(key.user, price * 50)
    limits = Limits(spend_cap=price * 5 + price // 2)
    api_keys.limit_key(key=key, limits=limits, acting_user=key.user, at=timezone.now())
    assert outcomes(tuned, key.user, key, 60) == {"held": 5, "KeyCapReached": 55}
    assert balance_of(Account.Kind.USER, key.user.pk) == 45 * price
