"""Many entries in one statement: as if one after the other, each written or refused by itself."""

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from accounts.ids import uuid7
from ledger.errors import IdempotencyConflict, InsufficientFunds, InvalidAmount, InvalidEntry
from ledger.models import Account, Entry, Posting
from ledger.reconciliation import check_ledger
from ledger.services.opening import account_for
from ledger.services.posting import Draft, Leg, gather, post_entries, post_entry
from tests.ledger.books import NOON, balance_of

pytestmark = pytest.mark.django_db
HUGE = 2**255 + 12345


def draft(key, *legs, **changes):
    values = {"kind": Entry.Kind.TRANSFER, "key": key, "legs": legs, "at": NOON}
    return Draft(**values | changes)


@pytest.fixture
def gateway(db):
    return account_for(Account.Kind.GATEWAY)


@pytest.fixture
def people(db):
    return [account_for(Account.Kind.EARNINGS, uuid7()) for _ in range(4)]


def give(gateway, account, amount, key="start"):
    return post_entry(
        kind=Entry.Kind.DEPOSIT,
        key=key,
        at=NOON,
        legs=[Leg(gateway, -amount), Leg(account, amount)],
    )


def move(key, payer, payee, amount):
    return draft(key, Leg(payer, -amount), Leg(payee, amount))


def test_all_are_written_by_one_statement(gateway, people, django_assert_num_queries):
    drafts = [draft(f"k{n}", Leg(gateway, -n - 1), Leg(people[n % 4], n + 1)) for n in range(40)]

    with django_assert_num_queries(1):
        posted = post_entries(drafts)

    assert all(one.is_new for one in posted)
    assert [one.get().idempotency_key for one in posted] == [f"k{n}" for n in range(40)]
    assert sum(balance_of(Account.Kind.EARNINGS, one.owner_id) for one in people) == 820
    assert Posting.objects.count() == 80


def test_what_was_written_before_is_returned_and_the_rest_is_written(gateway, people):
    first = give(gateway, people[0], 5, key="a")
    again = draft("a", Leg(people[0], 5), Leg(gateway, -5), kind=Entry.Kind.DEPOSIT)

    old, new = post_entries([again, move("b", people[0], people[1], 5)])

    assert (old.get(), old.is_new, new.is_new) == (first, False, True)
    assert balance_of(Account.Kind.EARNINGS, people[1].owner_id) == 5


def test_an_entry_that_was_written_is_returned_though_the_money_is_gone_since(gateway, people):
    give(gateway, people[0], 5)
    spent = post_entries([move("a", people[0], people[1], 5)])[0].get()

    assert post_entries([move("a", people[0], people[1], 5)])[0].get() == spent


def test_each_refusal_is_told_and_the_others_are_written_as_if_one_came_after_the_other(
    gateway, people
):
    ann, ben, cid, _ = people
    give(gateway, ann, 10)
    give(gateway, cid, 1, key="used")

    posted = post_entries(
        [
            move("too much", ann, ben, 11),
            move("enough", ann, ben, 6),
            move("no longer", ann, ben, 5),
            move("what came in", ben, cid, 6),
            move("used", ann, cid, 1),
            move("the rest", ann, cid, 4),
        ]
    )

    assert [type(one.refusal) for one in posted] == [
        InsufficientFunds,
        type(None),
        InsufficientFunds,
        type(None),
        IdempotencyConflict,
        type(None),
    ]
    assert "10 OPEN" not in posted[2].refusal.message
    assert balance_of(Account.Kind.EARNINGS, ann.owner_id) == 0
    assert balance_of(Account.Kind.EARNINGS, cid.owner_id) == 11
    assert not Entry.objects.filter(idempotency_key__in=["too much", "no longer"]).exists()


def test_amounts_near_the_top_stay_whole(gateway, people):
    ann, ben = people[:2]
    give(gateway, ann, HUGE)

    posted = post_entries(
        [move("all", ann, ben, HUGE), draft("over", Leg(gateway, -HUGE), Leg(ben, HUGE))]
    )

    assert isinstance(posted[1].refusal, InvalidAmount)
    assert balance_of(Account.Kind.EARNINGS, ben.owner_id) == HUGE


def test_a_key_stands_once_in_a_batch_and_legs_that_do_not_balance_stop_all(gateway, people):
    fine = draft("a", Leg(gateway, -1), Leg(people[0], 1))

    with pytest.raises(InvalidEntry, match="twice"):
        post_entries([fine, fine])
    with pytest.raises(InvalidEntry, match="add up to zero"):
        post_entries([fine, draft("b", Leg(gateway, -1), Leg(people[0], 2))])
    assert not Entry.objects.exists()


def test_keys_and_causes_keep_their_characters(gateway, people):
    key = 'transfer: "quoted", {braced}, back\\slash, ünï'

    entry = give(gateway, people[0], 1, key=key)

    assert Entry.objects.get(pk=entry.pk).idempotency_key == key
    assert give(gateway, people[0], 1, key=key) == entry


@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    moves=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=12
    )
)
def test_a_batch_does_what_single_entries_do(gateway, people, moves):
    """Against a model in memory that pays one after the other."""
    run = uuid7()
    start = [balance_of(Account.Kind.EARNINGS, one.owner_id) for one in people]
    give(gateway, people[0], 12, key=f"{run} start")
    expected, taken = start[:], []
    expected[0] += 12
    for payer, payee, amount in moves:
        fits = payer == payee or expected[payer] >= amount
        taken.append(fits and payer != payee)
        if taken[-1]:
            expected[payer] -= amount
            expected[payee] += amount
    drafts = [
        move(f"{run} {n}", people[payer], people[payee], amount)
        for n, (payer, payee, amount) in enumerate(moves)
        if payer != payee
    ]

    posted = post_entries(drafts) if drafts else []

    assert [one.is_new for one in posted] == [
        fits for fits, (payer, payee, _) in zip(taken, moves, strict=True) if payer != payee
    ]
    assert [balance_of(Account.Kind.EARNINGS, one.owner_id) for one in people] == expected


def test_the_causes_of_payments_spread_over_the_rows_of_a_hot_account(gateway):
    for number in range(64):
        platform = account_for(Account.Kind.PLATFORM, cause=uuid7())
        give(gateway, platform, 10, key=str(number))

    rows = Account.objects.filter(kind=Account.Kind.PLATFORM)
    assert 8 < rows.count() <= Account.SHARDS[Account.Kind.PLATFORM]
    assert rows.total() == rows.first().shards.total() == 640


def test_a_cause_pays_into_the_same_row_again(gateway):
    cause = uuid7()

    first = account_for(Account.Kind.PLATFORM, cause=cause)

    assert account_for(Account.Kind.PLATFORM, cause=cause) == first
    assert account_for(Account.Kind.USER, cause, cause=cause).shard == 0


def test_spending_gathers_over_the_rows_and_a_retry_finds_the_entry(gateway, people):
    for number in range(6):
        give(gateway, account_for(Account.Kind.STAKERS, cause=uuid7()), 10, key=str(number))

    def spend(amount, key):
        legs = [*gather(Account.Kind.STAKERS, None, amount), Leg(people[0], amount)]
        return post_entry(kind=Entry.Kind.TRANSFER, key=key, at=NOON, legs=legs)

    entry = spend(55, "spent")

    assert balance_of(Account.Kind.STAKERS) == 5
    assert spend(55, "spent") == entry
    with pytest.raises(InsufficientFunds):
        spend(6, "more")
    with pytest.raises(IdempotencyConflict):
        spend(54, "spent")
    assert all(finding.holds for finding in check_ledger())


def test_an_entry_hashed_by_an_older_version_is_known_by_its_body(gateway, people):
    """Replays of a chain's events come years later; the key must still find its entry."""
    old = Entry.objects.create(
        kind=Entry.Kind.DEPOSIT,
        idempotency_key="old",
        body_hash="0" * 64,
        legs=2,
        effective_at=NOON,
    )
    Posting.objects.bulk_create(
        [
            Posting(entry=old, account=gateway, amount=-5),
            Posting(entry=old, account=people[0], amount=5),
        ]
    )

    assert give(gateway, people[0], 5, key="old") == old
    with pytest.raises(IdempotencyConflict):
        give(gateway, people[0], 6, key="old")
