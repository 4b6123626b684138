"""A fee by its terms: to the wei, in any order of the terms, and by the terms of its hold alone."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from uuid import UUID

import pytest
from django.db import connection
from django.db.utils import DatabaseError
from hypothesis import given
from hypothesis import strategies as st

from accounts.ids import uuid7
from ledger import fees
from ledger.errors import IdempotencyConflict, SelfRoyalty
from ledger.fees import Credit, Terms, divide_credits, divide_fee
from ledger.models import Account, Entry, Hold
from ledger.royalties import Passing, Royalty
from ledger.services.holds import Refs
from ledger.services.settlement import settle_suspense
from ledger.splits import Part, Split
from tests.ledger.books import (
    NOON,
    OPEN,
    SPLIT,
    balance_of,
    capture,
    fund,
    hold_for,
    person,
    terms_with,
)

MODEL, OWNER, PARENT, GRAND, CHILD_NET, PARENT_NET = (UUID(int=n) for n in range(1, 7))
ALICE, BOB = UUID(int=8), UUID(int=9)
REFS = Refs(model=MODEL, completion=UUID(int=7))
UNIT = 10**9


def royalty(source: UUID, weight: int, owner: UUID | None = None) -> Royalty:
    return Royalty(owner or source, source, weight)


@st.composite
def splits(draw):
    cuts = sorted(draw(st.lists(st.integers(0, 10_000), min_size=3, max_size=3)))
    edges = [0, *cuts, 10_000]
    kinds = ("platform", "model_owner", "stakers", "contributors")
    points = [b - a for a, b in itertools.pairwise(edges)]
    return Split(3, tuple(Part(kind, part) for kind, part in zip(kinds, points, strict=True)))


@st.composite
def passings(draw, nodes=(PARENT, GRAND, ALICE)):
    chosen = draw(st.lists(st.sampled_from(nodes), unique=True))
    royalties = tuple(royalty(node, draw(st.integers(1, 10**30))) for node in chosen)
    spare = draw(st.integers(0, 10**30))
    return Passing(max(1, sum(r.weight for r in royalties) + spare), royalties)


TERMS = st.builds(
    Terms, split=splits(), model_owner=st.just(OWNER), model_stakers_bps=st.integers(0, 10_000),
    royalties=passings(),
    datanets=st.tuples(st.tuples(st.just(CHILD_NET), passings((PARENT_NET, GRAND)))),
)  # fmt: skip


@given(st.integers(0, 2**200), TERMS, st.randoms())
def test_a_fee_is_divided_to_the_wei_in_any_order(amount, terms, chance: random.Random) -> None:
    portions = divide_fee(amount, terms, REFS)
    assert sum(portion.amount for portion in portions) == amount
    assert all(portion.amount >= 0 for portion in portions)
    part = terms.split.amounts(amount)
    owner = [p for p in portions if p.kind in (Account.Kind.EARNINGS, Account.Kind.MODEL_STAKES)]
    assert sum(portion.amount for portion in owner) == part["model_owner"]
    passed = sum(p.amount for p in owner if p.refs.model != MODEL)
    most = -(-part["model_owner"] * (terms.royalties.whole - terms.royalties.kept)
             // terms.royalties.whole)  # fmt: skip
    assert passed <= min(part["model_owner"], most + len(terms.royalties.royalties))

    parts, royalties = list(terms.split.parts), list(terms.royalties.royalties)
    chance.shuffle(parts)
    chance.shuffle(royalties)
    shuffled = replace(
        terms,
        split=Split(3, tuple(parts)),
        royalties=Passing(terms.royalties.whole, tuple(royalties)),
    )
    key = lambda p: (p.kind, str(p.owner_id), str(p.refs.model))  # noqa: E731
    assert sorted(divide_fee(amount, shuffled, REFS), key=key) == sorted(portions, key=key)
    assert fees.to_json(shuffled) == fees.to_json(terms)


@given(TERMS)
def test_terms_survive_being_kept_as_json(terms: Terms) -> None:
    kept = json.loads(json.dumps(fees.to_json(terms)))
    assert fees.to_json(fees.from_json(kept)) == kept
    read = fees.from_json(kept)
    assert divide_fee(10**18 + 1, read, REFS) is not None
    assert read.passing_of(CHILD_NET).kept * terms.passing_of(CHILD_NET).whole == (
        terms.passing_of(CHILD_NET).kept * read.passing_of(CHILD_NET).whole
    )


@given(st.integers(0, 2**128), TERMS, st.integers(0, UNIT))
def test_each_credit_is_divided_for_itself(amount: int, terms: Terms, share: int) -> None:
    credits = [
        Credit("contributor", ALICE, share, CHILD_NET, MODEL),
        Credit("contributor", BOB, UNIT - share, PARENT_NET, MODEL),
    ]
    child, parent = divide_credits(amount, credits, terms)
    assert child.amount + parent.amount == amount
    assert child.kept + sum(passed for _, passed in child.royalties) == child.amount
    assert (parent.kept, parent.royalties) == (parent.amount, ())


def test_the_owners_part_goes_to_ancestors_first_then_to_stakers_and_owner() -> None:
    terms = terms_with(
        model_owner=None,
    )
    terms = replace(
        terms,
        model_owner=OWNER,
        model_stakers_bps=2_500,
        royalties=Passing(10, (royalty(PARENT, 1, ALICE),)),
    )
    found = {(p.kind, p.owner_id): p for p in divide_fee(10_000, terms, REFS)}
    assert found[Account.Kind.EARNINGS, ALICE].amount == 200
    assert found[Account.Kind.EARNINGS, ALICE].refs == Refs(model=PARENT, completion=UUID(int=7))
    assert found[Account.Kind.MODEL_STAKES, MODEL].amount == 450
    assert found[Account.Kind.EARNINGS, OWNER].amount == 1_350


def test_a_model_that_would_pay_itself_is_refused() -> None:
    terms = Terms(SPLIT, OWNER, royalties=Passing(10, (royalty(MODEL, 1),)))
    with pytest.raises(SelfRoyalty) as refusal:
        divide_fee(1_000, terms, REFS)
    assert refusal.value.code == "self_royalty"
    with pytest.raises(SelfRoyalty):
        Terms(SPLIT, OWNER, datanets=((CHILD_NET, Passing(10, (royalty(CHILD_NET, 1),))),))


@pytest.mark.parametrize(
    "changes",
    [
        {"model_stakers_bps": 10_001},
        {"model_stakers_bps": -1},
        {"model_stakers_bps": 0.5},
        {"model_owner": None, "model_stakers_bps": 1},
        {"model_owner": None, "royalties": Passing(2, (royalty(PARENT, 1),))},
        {"datanets": ((CHILD_NET, Passing()), (CHILD_NET, Passing()))},
    ],
)
def test_terms_that_cannot_be_are_refused(changes) -> None:
    with pytest.raises(ValueError):
        Terms(**{"split": SPLIT, "model_owner": OWNER} | changes)


@pytest.fixture
def payer(db):
    payer = person("payer")
    fund(payer, OPEN)
    return payer


def terms_of_people(owner, ancestor, points: int = 0) -> Terms:
    return Terms(
        SPLIT, owner.pk, points,
        royalties=Passing(10, (royalty(PARENT, 1, ancestor.pk),)),
        datanets=((CHILD_NET, Passing(4, (royalty(PARENT_NET, 1),))),),
    )  # fmt: skip


def test_a_hold_keeps_its_terms_and_its_fee_goes_by_them(payer) -> None:
    owner, ancestor, contributor = person("owner"), person("ancestor"), person("contributor")
    hold = hold_for(payer, 20_000, terms=terms_of_people(owner, ancestor, 5_000))
    entry = capture(hold, 10_000, refs=Refs(model=MODEL, completion=hold.cause_id))
    assert balance_of("EARNINGS", owner.pk) == 900
    assert balance_of("MODEL_STAKES", MODEL) == 900
    assert balance_of("EARNINGS", ancestor.pk) == 200
    told = entry.postings.get(account__owner_id=ancestor.pk)
    assert (told.model_id, told.completion_id) == (PARENT, hold.cause_id)

    credits = [
        Credit("contributor", contributor.pk, UNIT // 2, CHILD_NET, MODEL),
        Credit("treasury", PARENT_NET, UNIT // 2, PARENT_NET, MODEL),
    ]
    settled = settle_suspense(completion_id=hold.cause_id, credits=credits, at=NOON)
    assert balance_of("EARNINGS", contributor.pk) == 1_875
    assert balance_of("TREASURY", PARENT_NET) == 2_500 + 625
    told = settled.postings.get(account__kind="TREASURY", datanet_id=CHILD_NET)
    assert told.amount == 625
    assert settle_suspense(completion_id=hold.cause_id, credits=credits, at=NOON) == settled


def test_terms_other_than_those_of_the_hold_take_nothing(payer) -> None:
    owner, ancestor = person("owner"), person("ancestor")
    terms = terms_of_people(owner, ancestor)
    hold = hold_for(payer, 10_000, terms=terms)
    before = Entry.objects.count()
    for other in (
        replace(terms, model_owner=ancestor.pk),
        replace(terms, royalties=Passing()),
        replace(terms, datanets=()),
        replace(terms, model_stakers_bps=1),
    ):
        with pytest.raises(IdempotencyConflict, match="other terms"):
            capture(hold, 10_000, terms=other)
    with pytest.raises(IdempotencyConflict, match="other terms"):
        hold_for(payer, 10_000, terms=replace(terms, datanets=()), cause_id=hold.cause_id)
    assert Entry.objects.count() == before


def test_a_self_referring_royalty_writes_nothing(payer) -> None:
    owner = person("owner")
    terms = Terms(SPLIT, owner.pk, royalties=Passing(10, (royalty(MODEL, 1, owner.pk),)))
    hold = hold_for(payer, 10_000, terms=terms)
    with pytest.raises(SelfRoyalty):
        capture(hold, 10_000, refs=Refs(model=MODEL, completion=hold.cause_id))
    hold.refresh_from_db()
    assert hold.state == Hold.State.PENDING
    assert balance_of("HOLD", payer.pk) == 10_000


@pytest.mark.django_db
def test_a_holds_terms_cannot_be_changed_in_the_database(payer) -> None:
    hold = hold_for(payer, 10)
    with pytest.raises(DatabaseError), connection.cursor() as cursor:
        cursor.execute("UPDATE ledger_hold SET terms = NULL WHERE id = %s", [hold.pk])


def test_a_hold_of_before_there_were_terms_is_captured_by_given_ones(payer) -> None:
    cause = uuid7()
    hold = hold_for(payer, 1_000, cause_id=cause)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("UPDATE ledger_hold SET terms = NULL WHERE id = %s", [hold.pk])
        cursor.execute("SET LOCAL session_replication_role = origin")
    hold.refresh_from_db()
    capture(hold, 1_000, terms=terms_with(), refs=Refs(model=MODEL, completion=cause))
    assert balance_of("SUSPENSE", cause) == 500
