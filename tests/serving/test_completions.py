"""The money and the states of a completion: held, captured or given back, never both."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts import api_keys, key_spending, leases
from accounts.api_keys import Limits
from accounts.models import OutboxMessage
from attribution.models import Attribution
from attribution.texts import texts_of
from ledger.errors import HoldExpired
from ledger.models import Account, Hold
from serving.errors import (
    InvalidRequest,
    KeyCapReached,
    NoBalance,
    NoWorker,
    PromptTooLong,
    TooManyRequests,
)
from serving.models import Completion, CompletionKind, CompletionState
from serving.prompts import tokenizer_of
from serving.questions import Question, Sampling
from serving.services import completions, running
from serving.services.running import Answer, Ended
from tests.ledger.books import OPEN, balance_of
from tests.serving.conftest import beat

pytestmark = pytest.mark.django_db
HELLO = Question.chat("What is a Datanet?")
IN, OUT = 10**12, 2 * 10**12


def spendable(user):
    return balance_of(Account.Kind.USER, user.pk)


@pytest.fixture
def ask(tuned, client_person):
    def start(
        question=HELLO,
        at=None,
        deployment=tuned,
        payer=client_person,
        api_key=None,
        **sampling,
    ):
        return completions.start_completion(
            deployment=deployment,
            question=question,
            sampling=Sampling(**{"max_tokens": 20, **sampling}),
            payer=payer,
            api_key=api_key,
            acting_user=payer,
            at=at or timezone.now(),
        )

    return start


def claimed(completion, owner="worker-a", at=None):
    found = running.claim(completion_id=completion.pk, owner=owner, at=at or timezone.now())
    assert found is not None
    return found


def settled(completion, owner="worker-a", ids=(5, 6, 7), text="It is", finish="stop"):
    return running.settle(
        completion_id=completion.pk,
        owner=owner,
        answer=Answer(list(ids), text, finish),
        at=timezone.now(),
    )


def test_the_highest_price_is_held_and_the_request_queued(ask, client_person):
    made = ask()
    assert made.state == CompletionState.HELD
    assert made.highest_fee == made.prompt_tokens * IN + 20 * OUT
    assert spendable(client_person) == 10 * OPEN - made.highest_fee
    assert Hold.objects.get(pk=made.hold_id).amount == made.highest_fee
    message = OutboxMessage.objects.get(task="serving.tasks.generate")
    assert (message.queue, message.args) == ("generate.starter", [str(made.pk)])


def test_the_real_price_is_captured_the_rest_given_back_and_shared(ask, client_person, builder):
    made = ask()
    claimed(made)
    done = settled(made)
    assert (done.state, done.answer, done.completion_tokens) == ("SUCCEEDED", "It is", 3)
    assert done.fee == made.prompt_tokens * IN + 3 * OUT
    assert spendable(client_person) == 10 * OPEN - done.fee
    assert balance_of(Account.Kind.HOLD, client_person.pk) == 0
    assert balance_of(Account.Kind.EARNINGS, builder.pk) == done.fee * 2 // 10
    assert balance_of(Account.Kind.SUSPENSE, done.pk) == done.fee // 2
    assert Hold.objects.get(pk=made.hold_id).state == "CAPTURED"
    assert done.entry_id


def test_a_base_alone_has_no_owner_and_no_contributors(ask, base_alone, builder):
    done = settled(claimed(ask(deployment=base_alone)))
    assert balance_of(Account.Kind.SUSPENSE, done.pk) == 0
    assert balance_of(Account.Kind.EARNINGS, builder.pk) == 0
    assert balance_of(Account.Kind.PLATFORM) == done.fee - done.fee * 2 // 10


def test_who_asked_for_nothing_is_still_the_payer_of_the_receipt(ask, tuned, client_person):
    tuned.input_price = tuned.output_price = 0
    tuned.save()
    done = settled(claimed(ask()))
    assert (done.hold_id, done.fee) == (None, 0)
    assert Attribution.objects.get(completion_id=done.pk).payer == client_person


def test_its_texts_are_found_again_by_who_scores_it_once_more(ask):
    done = settled(claimed(ask()))
    asked = Attribution.objects.get(completion_id=done.pk)
    found = texts_of(done.pk)
    assert (found.prompt, found.answer) == (asked.prompt, asked.answer)
    assert (found.prompt_ids, found.answer_ids) == (asked.prompt_ids, asked.answer_ids)
    assert found.answer
    assert texts_of(asked.pk) is None


def test_settling_twice_charges_once(ask, client_person):
    made = ask()
    claimed(made)
    settled(made)
    after = spendable(client_person)
    assert settled(made) is None
    assert spendable(client_person) == after


def test_answers_that_end_together_are_charged_together_and_a_lost_one_is_left_out(
    ask, client_person
):
    made = [ask() for _ in range(4)]
    for one in made:
        claimed(one)
    Completion.objects.filter(pk=made[2].pk).update(lease_owner="another")
    ended = [
        Ended(one.pk, "worker-a", Answer([5] * n, "It is", "stop")) for n, one in enumerate(made)
    ]
    settled = running.settle_many(ended=ended, at=timezone.now())
    assert [one and one.completion_tokens for one in settled] == [0, 1, None, 3]
    charged = [settled[1], settled[3]]
    held = made[2].highest_fee
    assert spendable(client_person) == 10 * OPEN - sum(one.fee for one in charged) - held
    assert Attribution.objects.count() == 2
    for one in charged:
        kept = Completion.objects.get(pk=one.pk)
        assert (kept.state, kept.fee, kept.entry_id) == ("SUCCEEDED", one.fee, one.entry_id)
        assert Hold.objects.get(pk=one.hold_id).captured == one.fee
    assert running.settle_many(ended=ended, at=timezone.now()) == [None] * 4


def test_where_one_of_several_cannot_be_charged_none_is(ask, client_person):
    made = [ask() for _ in range(2)]
    for one in made:
        claimed(one)
    Hold.objects.filter(pk=made[1].hold_id).update(expires_at=timezone.now())
    ended = [Ended(one.pk, "worker-a", Answer([5], "It", "stop")) for one in made]
    with pytest.raises(HoldExpired):
        running.settle_many(ended=ended, at=timezone.now())
    assert not Hold.objects.filter(state="CAPTURED").exists()
    assert set(Completion.objects.values_list("state", flat=True)) == {"RUNNING"}


def test_a_failure_gives_everything_back(ask, client_person):
    made = ask()
    claimed(made)
    failed = running.fail(
        completion_id=made.pk, owner="worker-a", reason="It broke.", at=timezone.now()
    )
    assert (failed.state, failed.failure_reason, failed.entry_id) == ("FAILED", "It broke.", None)
    assert spendable(client_person) == 10 * OPEN


def test_only_one_worker_gets_a_request(ask):
    made = ask()
    claimed(made)
    assert running.claim(completion_id=made.pk, owner="worker-b", at=timezone.now()) is None


def test_a_worker_that_lost_its_lease_shows_nothing_and_takes_nothing(ask, client_person):
    made = ask()
    claimed(made)
    late = timezone.now() + timedelta(hours=1)
    Completion.objects.update(deadline=late + timedelta(hours=1))
    leases.sweep(at=late)
    claimed(made, owner="worker-b", at=late)
    assert not running.note_first_token(completion_id=made.pk, owner="worker-a", at=late)
    assert settled(made, owner="worker-a") is None
    assert running.fail(completion_id=made.pk, owner="worker-a", reason="", at=late) is None
    made.refresh_from_db()
    assert (made.state, made.fee) == ("RUNNING", 0)


def test_a_lost_request_runs_again_while_nobody_has_seen_a_token(ask, settings):
    made = ask()
    claimed(made)
    leases.sweep(at=timezone.now() + settings.WORK_LEASE + timedelta(seconds=1))
    made.refresh_from_db()
    assert made.state == CompletionState.HELD
    assert OutboxMessage.objects.filter(task="serving.tasks.generate").count() == 2
    assert settled(claimed(made, owner="worker-b"), owner="worker-b").state == "SUCCEEDED"


def test_a_lost_request_whose_first_token_was_shown_fails_free_of_charge(
    ask, client_person, settings
):
    made = ask()
    claimed(made)
    assert running.note_first_token(completion_id=made.pk, owner="worker-a", at=timezone.now())
    leases.sweep(at=timezone.now() + settings.WORK_LEASE + timedelta(seconds=1))
    made.refresh_from_db()
    assert made.state == CompletionState.FAILED
    assert "not charged" in made.failure_reason
    assert spendable(client_person) == 10 * OPEN


def test_a_request_that_no_worker_takes_is_given_up_and_given_back(ask, client_person, settings):
    made = ask()
    at = timezone.now()
    Completion.objects.update(deadline=at + timedelta(days=1))
    for _ in range(settings.WORK_ATTEMPTS + 1):
        at += settings.WORK_LEASE + timedelta(seconds=1)
        leases.sweep(at=at)
    made.refresh_from_db()
    assert made.state == CompletionState.FAILED
    assert spendable(client_person) == 10 * OPEN


def test_a_cancelled_request_costs_nothing_before_a_worker_has_it(ask, client_person):
    made = ask()
    completions.cancel_completion(completion=made, acting_user=client_person, at=timezone.now())
    made.refresh_from_db()
    assert (made.state, made.fee) == ("CANCELLED", 0)
    assert spendable(client_person) == 10 * OPEN
    assert running.claim(completion_id=made.pk, owner="worker-a", at=timezone.now()) is None


def test_a_request_cancelled_while_it_runs_costs_what_it_gave(ask, client_person):
    made = ask()
    claimed(made)
    completions.cancel_completion(completion=made, acting_user=client_person, at=timezone.now())
    done = settled(made, ids=(5, 6), finish="cancelled")
    assert done.state == CompletionState.CANCELLED
    assert done.fee == made.prompt_tokens * IN + 2 * OUT
    assert spendable(client_person) == 10 * OPEN - done.fee


def test_a_request_cancelled_without_a_token_costs_nothing(ask, client_person):
    made = ask()
    claimed(made)
    done = settled(made, ids=(), text="", finish="cancelled")
    assert (done.state, done.fee, done.entry_id) == ("CANCELLED", 0, None)
    assert spendable(client_person) == 10 * OPEN


def test_it_is_refused_without_a_balance_and_nothing_is_written(ask, stranger):
    with pytest.raises(NoBalance, match="Deposit OPEN"):
        ask(payer=stranger)
    assert not Completion.objects.exists()
    assert not OutboxMessage.objects.filter(task="serving.tasks.generate").exists()


def test_a_free_deployment_needs_no_balance(ask, tuned, stranger):
    tuned.input_price = tuned.output_price = 0
    tuned.save()
    made = ask(payer=stranger)
    assert (made.highest_fee, made.hold_id) == (0, None)
    done = settled(claimed(made))
    assert (done.state, done.fee, done.entry_id) == ("SUCCEEDED", 0, None)


def test_without_a_worker_it_is_refused(ask):
    beat(ago=3600)
    with pytest.raises(NoWorker):
        ask()


def test_a_prompt_over_the_context_is_refused(ask):
    with pytest.raises(PromptTooLong, match="512"):
        ask(Question.chat("word " * 2_000))
    with pytest.raises(PromptTooLong, match="Ask for at most"):
        ask(max_tokens=600)
    with pytest.raises(InvalidRequest, match="empty"):
        ask(Question(CompletionKind.TEXT, text=""))
    with pytest.raises(InvalidRequest, match="does not have"):
        ask(Question(CompletionKind.TEXT, token_ids=[10**9]))


def test_without_a_limit_an_answer_ends_at_the_house_limit_or_the_context(ask):
    assert ask(max_tokens=None).sampling["max_tokens"] == 256
    long = ask(Question.chat("word " * 330), max_tokens=None)
    assert long.sampling["max_tokens"] == 512 - long.prompt_tokens < 256


def test_one_person_has_so_many_unfinished_requests(ask, monkeypatch):
    monkeypatch.setattr("serving.services.completions.UNFINISHED_PER_PERSON", 2)
    ask()
    second = ask()
    with pytest.raises(TooManyRequests):
        ask()
    settled(claimed(second))
    ask()


def test_the_price_is_that_of_the_moment_of_asking(ask, tuned):
    made = ask()
    tuned.input_price = tuned.output_price = 10**17
    tuned.save()
    assert settled(claimed(made)).fee == made.prompt_tokens * IN + 3 * OUT


def test_the_receipt_is_noted_when_it_comes(ask):
    made = settled(claimed(ask()))
    running.note_receipt(completion_id=made.pk, receipt_id=made.pk)
    made.refresh_from_db()
    assert made.receipt_id == made.pk


def test_a_completion_is_its_payers_alone(ask, client_person, stranger, staff):
    made = ask()
    assert list(Completion.objects.visible_to(client_person)) == [made]
    assert not Completion.objects.visible_to(stranger).exists()
    assert not Completion.objects.visible_to(staff).exists()


@pytest.fixture
def key(client_person):
    return api_keys.create_key(
        user=client_person, name="ci", acting_user=client_person, at=timezone.now()
    )[0]


def capped(key, wei):
    api_keys.limit_key(
        key=key, limits=Limits(spend_cap=wei), acting_user=key.user, at=timezone.now()
    )


def spent_by(key):
    return key_spending.spent([key], timezone.now()).get(key.pk, 0)


def test_a_key_counts_what_is_held_and_then_what_was_spent(ask, key):
    made = ask(api_key=key)
    assert spent_by(key) == made.highest_fee
    claimed(made)
    fee = settled(made).fee
    assert spent_by(key) == fee
    other = ask(api_key=key)
    completions.cancel_completion(completion=other, acting_user=None, at=timezone.now())
    failed = claimed(ask(api_key=key))
    running.fail(completion_id=failed.pk, owner="worker-a", reason="x", at=timezone.now())
    made.refresh_from_db()
    assert spent_by(key) == made.fee


def test_a_key_over_its_cap_holds_nothing(ask, key, client_person):
    once = ask(api_key=key)
    capped(key, once.highest_fee * 2 - 1)
    before = spendable(client_person)
    with pytest.raises(KeyCapReached) as refused:
        ask(api_key=key)
    assert "may spend" in str(refused.value)
    assert (spendable(client_person), spent_by(key)) == (before, once.highest_fee)
    assert Completion.objects.count() == 1


def test_a_byte_that_the_database_cannot_keep_is_replaced_and_paid_like_another(ask, base):
    nul = tokenizer_of(base).encode("\0")
    made = ask(Question(CompletionKind.TEXT, token_ids=[*nul, 70]))
    assert made.prompt == tokenizer_of(base).decode([*nul, 70]).replace("\0", "\ufffd")
    claimed(made)
    done = settled(made, text="It\0is")
    assert (done.answer, done.completion_tokens) == ("It\ufffdis", 3)
