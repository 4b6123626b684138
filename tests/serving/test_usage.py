"""What a question costs is told before it is asked, and what was spent by model, key and day."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts import api_keys
from ledger.models import Hold
from ledger.services.budgets import set_budget
from ledger.services.deposits import credit_deposit, undo_deposit
from ledger.services.holds import Refs, release_hold
from ledger.services.opening import account_for
from ledger.services.refunds import refund_fee
from ledger.services.topups import set_top_up
from serving.errors import NotSpendable
from serving.models import Completion
from serving.questions import Question, Sampling
from serving.services.completions import start_completion
from tests.ledger.books import OPEN, capture, earn, person

pytestmark = pytest.mark.django_db
QUESTION = {"model": "builder-tuned", "messages": [{"role": "user", "content": "Hello"}]}


def ask(deployment, payer, api_key=None):
    return start_completion(
        deployment=deployment,
        question=Question.chat("Hello"),
        sampling=Sampling(max_tokens=10),
        payer=payer,
        acting_user=payer,
        api_key=api_key,
        at=timezone.now(),
    )


def quoted(client, **changes):
    body = QUESTION | {"max_tokens": 10} | changes
    return client.post(reverse("api-quotes"), body, content_type="application/json")


def budget(user, limit, hard_stop=True):
    now = timezone.now()
    return set_budget(user=user, limit=limit, hard_stop=hard_stop, acting_user=user, at=now)


@pytest.fixture
def spent(tuned, base_alone, client_person):
    """Three answers: two by a key of the tuned model, one of the base in the playground."""
    key, _ = api_keys.create_key(
        user=client_person, name="=cmd()", acting_user=client_person, at=timezone.now()
    )
    made = [
        ask(tuned, client_person, key),
        ask(tuned, client_person, key),
        ask(base_alone, client_person),
    ]
    for place, one in enumerate(made):
        Completion.objects.filter(pk=one.pk).update(
            fee=10 * (place + 1), created_at=timezone.now() - timedelta(days=place)
        )
    return key


# ---- before asking


def test_a_quote_by_api_is_what_would_be_held_and_writes_nothing(client, tuned, client_person):
    client.force_login(client_person)

    told = quoted(client).json()

    assert not Completion.objects.exists()
    assert (told["affordable"], told["code"], told["max_tokens"]) == (True, "", 10)
    assert told["highest_fee"] == str(ask(tuned, client_person).highest_fee)


def test_a_text_is_quoted_too(client, tuned, client_person):
    client.force_login(client_person)
    body = {"model": "builder-tuned", "prompt": "Once upon", "max_tokens": 3}

    told = client.post(reverse("api-quotes"), body, content_type="application/json").json()

    assert int(told["highest_fee"]) == told["prompt_tokens"] * 10**12 + 3 * 2 * 10**12


def test_a_quote_says_why_it_would_be_refused(client, tuned, client_person, stranger):
    client.force_login(stranger)
    assert quoted(client).json()["code"] == "insufficient_funds"
    client.force_login(client_person)
    budget(client_person, 1)

    told = quoted(client).json()

    assert (told["affordable"], told["code"]) == (False, "budget_reached")
    assert "Raise it in your wallet" in told["message"]
    with pytest.raises(NotSpendable) as refused:
        ask(tuned, client_person)
    assert (refused.value.status, refused.value.code) == (402, "budget_reached")
    assert not Completion.objects.exists()


def test_a_quote_counts_on_the_rule_for_topping_up(client, tuned, stranger):
    earn(stranger, OPEN)
    client.force_login(stranger)
    assert quoted(client).json()["affordable"] is False
    set_top_up(
        user=stranger,
        is_on=True,
        below=1,
        amount=OPEN,
        monthly_limit=OPEN,
        acting_user=stranger,
        at=timezone.now(),
    )

    assert quoted(client).json()["affordable"] is True
    assert ask(tuned, stranger).hold_id is not None


def test_who_owes_is_told_so_before_and_at_asking(client, tuned, stranger):
    account = account_for("USER", stranger.pk)
    where = {"chain_id": 31337, "tx_hash": "0xAA", "log_index": 0, "at": timezone.now()}
    credit_deposit(account_id=account.pk, amount=OPEN, **where)
    hold = ask(tuned, stranger)
    undo_deposit(**where)
    client.force_login(stranger)

    assert quoted(client).json()["code"] == "spending_blocked"
    with pytest.raises(NotSpendable):
        ask(tuned, stranger)
    page = client.get(reverse("ledger:wallet")).content.decode()
    assert "You cannot spend now" in page
    assert hold.highest_fee > 0


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"model": "nobody"}, 404), ({"messages": []}, 400), ({"max_tokens": 9_999}, 400)],
)
def test_what_cannot_be_asked_has_no_price(client, tuned, client_person, changes, status):
    client.force_login(client_person)

    assert quoted(client, **changes).status_code == status


def test_a_quote_is_for_those_who_are_signed_in(client, tuned):
    assert quoted(client).status_code in (401, 403)
    assert client.get(reverse("api-quotes")).status_code in (401, 403, 405)


def test_the_playground_says_why_before_it_is_asked(client, tuned, client_person):
    client.force_login(client_person)
    budget(client_person, 1)
    body = json.dumps(QUESTION)

    told = client.post(reverse("serving:quote"), body, content_type="application/json").json()

    assert told["affordable"] is False
    assert "left of your budget" in told["refusal"]


# ---- after it


def figures(page, kind):
    return [(bar.name, bar.amount) for bar in page.context["groups"][kind]]


def test_usage_is_grouped_by_model_key_and_day(client, client_person, tuned, spent):
    client.force_login(client_person)

    page = client.get(reverse("serving:completions"))

    assert [amount for _, amount in figures(page, "model")] == [30, 30]
    assert figures(page, "key") == [
        (str(spent), 30),
        ("Playground, or a key that is gone", 30),
    ]
    assert [amount for _, amount in figures(page, "day")] == [10, 20, 30]


def test_each_figure_opens_what_is_behind_it(client, client_person, tuned, spent):
    client.force_login(client_person)
    page = client.get(reverse("serving:completions"))
    for kind in ("model", "key", "day"):
        for bar in page.context["groups"][kind]:
            chosen = client.get(f"{reverse('serving:completions')}?{bar.query}")
            rows = list(chosen.context["page"])
            assert (sum(row.fee for row in rows), len(rows)) == (bar.amount, bar.count)
            assert chosen.context["usage"]["fee"] == bar.amount


@pytest.mark.parametrize("query", ["key=rubbish", "since=x", "until=9999-12-31", "model=%00"])
def test_what_cannot_be_read_is_left_out(client, client_person, tuned, spent, query):
    client.force_login(client_person)

    assert len(client.get(f"{reverse('serving:completions')}?{query}").context["page"]) == 3


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
def test_the_file_has_each_answer_and_runs_no_formula(client, client_person, tuned, spent):
    client.force_login(client_person)

    answer = client.get(reverse("serving:completions_csv"), {"model": tuned.name})

    rows = list(csv.DictReader(io.StringIO(b"".join(answer).decode())))
    assert [row["fee_wei"] for row in rows] == ["20", "10"]
    assert {row["key"] for row in rows} == {f"'{spent}"}


def test_others_see_nothing_of_it(client, client_person, stranger, tuned, spent):
    for name in ("serving:completions_csv", "api-usage"):
        assert client.get(reverse(name)).status_code in (302, 401, 403)
    client.force_login(stranger)
    assert client.get(reverse("api-usage")).json()["completions"] == 0
    client.force_login(client_person)

    told = client.get(reverse("api-usage"), {"key": "none"}).json()

    assert (told["completions"], told["fee"]) == (1, "30")
    assert told["model"][0]["amount"] == "30"


def test_a_hold_that_was_released_counts_as_nothing_spent(client, client_person, tuned):
    from ledger.models import Hold

    made = ask(tuned, client_person)
    release_hold(
        hold=Hold.objects.get(pk=made.hold_id),
        reason="It failed.",
        acting_user=None,
        at=timezone.now(),
    )
    client.force_login(client_person)

    assert client.get(reverse("api-usage")).json()["fee"] == "0"


def test_a_fee_that_was_given_back_is_told_beside_what_was_spent(client, client_person, tuned):
    made = ask(tuned, client_person)
    hold = Hold.objects.get(cause_id=made.pk)
    capture(hold, 40, refs=Refs(completion=made.pk))
    Completion.objects.filter(pk=made.pk).update(fee=40)
    staff = person("refunding")
    staff.is_staff = True
    staff.save(update_fields=["is_staff"])
    client.force_login(client_person)
    before = client.get(reverse("api-completion-detail", args=[made.pk])).json()
    refund = refund_fee(hold=hold, reason="Too short.", acting_user=staff, at=timezone.now())

    after = client.get(reverse("api-completion-detail", args=[made.pk])).json()

    assert (before["refunded"], after["refunded"]) == (None, "40")
    assert client.get(reverse("api-usage")).json()["refunded"] == "40"
    assert "were given back" in client.get(reverse("serving:completions")).content.decode()
    page = client.get(made.get_absolute_url()).content.decode()
    assert reverse("ledger:entry", args=[refund.entry_id]) in page
    assert "Too short." in page
