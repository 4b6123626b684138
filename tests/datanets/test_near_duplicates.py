"""Records that say nearly the same: found, shown, and credited to the first."""

from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from accounts.models import User
from datanets import clusters
from datanets.models import Contribution, Datanet, NearLink, Record, RecordPrint
from datanets.services import datanets as services
from datanets.services import moderation, near_duplicates, reviews
from tests.datanets.conftest import NOON, make_person

CAPITAL = {
    "question": "Why do leaves turn red in autumn?",
    "answer": "The tree breaks down the green chlorophyll in its leaves before winter. Other "
    "pigments stay behind, and some trees make red ones from sugar that is trapped in the leaf.",
}
COPY = {
    "question": "why do LEAVES turn red, in autumn",
    "answer": "The tree breaks down the green  chlorophyll in its leaves before the winter. Other "
    "pigments stay behind; and some trees make rеd ones from sugar trapped in the leaf!",
}
OTHER = {
    "question": "Why is the sky blue?",
    "answer": "Air scatters short waves of light more than long ones, so that blue reaches us from "
    "everywhere while red goes straight on.",
}


@pytest.fixture
def thief(db: None) -> User:
    return make_person("thief")


@pytest.fixture
def pair(published: Datanet, contributor: User, thief: User, submit: Any) -> tuple[Record, Record]:
    """A record, and a copy that somebody else made of it; both wait for a verdict."""
    first = submit(published, contributor, CAPITAL, OTHER)
    return first.records.get(row=1), submit(published, thief, COPY).records.get()


def accept(*records: Record) -> None:
    for record in records:
        reviews.accept_records(
            datanet=record.datanet, acting_user=record.datanet.owner, at=NOON, records=[record.pk]
        )


def origin_of(record: Record) -> Any:
    return RecordPrint.objects.get(record=record).origin_id


def test_a_copy_is_linked_to_what_it_repeats_and_nothing_else_is(pair: Any) -> None:
    link = NearLink.objects.get()
    assert {link.record_id, link.other_id} == {record.pk for record in pair}
    assert link.percent >= 90


def test_a_pending_record_is_nobodys_origin(pair: Any) -> None:
    mine, copy = pair
    accept(copy)
    assert origin_of(mine) is None
    assert origin_of(copy) == copy.pk


def test_the_first_submitted_is_the_origin_in_whatever_order_they_are_accepted(pair: Any) -> None:
    mine, copy = pair
    accept(copy, mine)
    assert origin_of(copy) == origin_of(mine) == mine.pk
    assert clusters.payees_of([copy.pk])[copy.pk].contributor_id == mine.contributor_id
    assert clusters.repeated_among([mine.pk, copy.pk]) == {copy.pk: mine.pk}


def test_the_role_passes_on_when_the_origin_is_rejected_and_comes_back_with_it(
    pair: Any, owner: User
) -> None:
    mine, copy = pair
    accept(mine, copy)
    batch = reviews.reject_records(
        datanet=mine.datanet, reason="WRONG", acting_user=owner, at=NOON, records=[mine.pk]
    )
    assert (origin_of(mine), origin_of(copy)) == (None, copy.pk)
    reviews.undo_review(batch=batch, acting_user=owner, at=NOON)
    assert (origin_of(mine), origin_of(copy)) == (mine.pk, mine.pk)


def test_the_role_passes_on_when_the_origin_is_withdrawn(pair: Any, contributor: User) -> None:
    mine, copy = pair
    accept(mine, copy)
    moderation.withdraw_record(record=mine, acting_user=contributor, at=NOON)
    assert origin_of(copy) == copy.pk
    assert not RecordPrint.objects.filter(record=mine).exists()
    assert not NearLink.objects.exists()


def test_a_rejected_copy_in_a_version_still_pays_the_origin(pair: Any, owner: User) -> None:
    mine, copy = pair
    accept(mine, copy)
    reviews.reject_records(
        datanet=mine.datanet, reason="DUPLICATE", acting_user=owner, at=NOON, records=[copy.pk]
    )
    assert clusters.payees_of([copy.pk])[copy.pk].origin_id == mine.pk


def other_datanet(name: str, owner: User, **extra: Any) -> Datanet:
    made = services.create_datanet(
        name=name, summary="More.", licence="CC-BY-4.0", acting_user=owner, at=NOON
    )
    Datanet.objects.filter(pk=made.pk).update(**extra)
    made.refresh_from_db()
    return made


def test_it_is_found_across_datanets(
    published: Datanet, contributor: User, thief: User, submit: Any
) -> None:
    mine = submit(published, contributor, CAPITAL).records.get()
    theirs = other_datanet("Theirs", thief, state="PUBLISHED", published_at=NOON)
    copy = submit(theirs, thief, COPY).records.get()
    accept(mine, copy)
    assert origin_of(copy) == mine.pk
    moderation_of = make_person("another_staff", is_staff=True)
    services.take_down_datanet(
        datanet=published, statement="Not theirs to give.", acting_user=moderation_of, at=NOON
    )
    assert origin_of(copy) == copy.pk
    assert origin_of(mine) is None


def test_a_private_datanet_claims_nothing_elsewhere(
    published: Datanet, contributor: User, thief: User, submit: Any
) -> None:
    hoard = other_datanet("Hoard", thief)
    hidden = submit(hoard, thief, COPY).records.get()
    mine = submit(published, contributor, CAPITAL).records.get()
    accept(hidden, mine)
    assert origin_of(mine) == mine.pk
    assert origin_of(hidden) == mine.pk


def test_a_bridge_between_two_records_captures_neither(
    published: Datanet, contributor: User, thief: User, submit: Any
) -> None:
    words = [f"word{letter}" for letter in "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrst"]
    texts = [
        " ".join([*words[at:], *(f"tail{n}x" for n in "abcdefghijklm"[:at])]) for at in (0, 6, 12)
    ]
    early, victim, bridge = (
        submit(published, user, {"text": text}).records.get()
        for user, text in ((thief, texts[0]), (contributor, texts[2]), (thief, texts[1]))
    )
    assert NearLink.objects.count() == 2
    accept(early, victim, bridge)
    assert origin_of(bridge) == early.pk
    assert origin_of(victim) == victim.pk


def test_records_of_before_are_compared_by_the_sweep(accepted: Contribution) -> None:
    RecordPrint.objects.all().delete()
    assert near_duplicates.compare_all() == 6
    assert all(one.origin_id == one.record_id for one in RecordPrint.objects.all())
    assert near_duplicates.compare_all() == 0


def test_the_database_refuses_an_origin_that_follows_another(pair: Any) -> None:
    mine, copy = pair
    accept(mine, copy)
    with transaction.atomic(), connection.cursor() as cursor:
        RecordPrint.objects.filter(record=mine).update(origin=copy.pk)
        with pytest.raises(IntegrityError):
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        transaction.set_rollback(True)


def test_a_reviewer_sees_what_a_record_is_near_to(pair: Any, owner: User, browser: Any) -> None:
    mine, copy = pair
    accept(mine)
    page = browser(owner).get(
        f"{mine.datanet.get_absolute_url()}review/?contribution={copy.contribution_id}"
    )
    assert "Near-duplicate of" in page.content.decode()
    assert mine.get_absolute_url() in page.content.decode()


def test_the_records_page_tells_who_came_first(pair: Any, browser: Any) -> None:
    mine, copy = pair
    accept(mine, copy)
    client = browser(None)
    assert "came first of 2" in client.get(mine.get_absolute_url()).content.decode()
    assert "Another record came first" in client.get(copy.get_absolute_url()).content.decode()


def test_a_stranger_does_not_see_a_record_that_waits(
    pair: Any, stranger: User, browser: Any
) -> None:
    mine, copy = pair
    accept(mine)
    page = browser(stranger).get(mine.get_absolute_url()).content.decode()
    assert copy.get_absolute_url() not in page


def test_a_stranger_does_not_learn_what_a_private_datanet_holds(
    published: Datanet, contributor: User, thief: User, submit: Any, browser: Any
) -> None:
    mine = submit(published, contributor, CAPITAL).records.get()
    hidden = submit(other_datanet("Hoard", thief), thief, COPY).records.get()
    accept(mine, hidden)
    assert NearLink.objects.count() == 1
    page = browser(None).get(mine.get_absolute_url()).content.decode()
    assert "Near-duplicate" not in page
    assert "say nearly the same" not in page


def test_a_record_withdrawn_while_it_is_compared_leaves_no_print(
    published: Datanet, contributor: User, submit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = submit(published, contributor, CAPITAL).records.get()
    RecordPrint.objects.all().delete()
    compare = near_duplicates.search

    def withdraw_meanwhile(*args: Any) -> Any:
        Record.objects.filter(pk=mine.pk).update(state="WITHDRAWN")
        return compare(*args)

    monkeypatch.setattr(near_duplicates, "search", withdraw_meanwhile)
    near_duplicates.compare_all()
    assert not RecordPrint.objects.exists()


def test_the_check_tells_the_contributor(
    published: Datanet, contributor: User, thief: User, submit: Any, browser: Any
) -> None:
    mine = submit(published, contributor, CAPITAL).records.get()
    accept(mine)
    made = submit(published, thief, COPY, OTHER)
    assert made.rows_near == 1
    assert made.near_rows[0]["record"] == str(mine.pk)
    Contribution.objects.filter(pk=made.pk).update(state="READY")
    page = browser(thief).get(made.get_absolute_url()).content.decode()
    assert "1 row says nearly what a record says" in page
    assert mine.get_absolute_url() in page
