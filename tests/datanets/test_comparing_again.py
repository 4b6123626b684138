"""Comparing by a newer version, after copies were withdrawn, and against who makes it slow."""

from collections import Counter
from typing import Any

import pytest
from django.core.management import call_command

from accounts.models import User
from datanets.ingest import similar
from datanets.models import Datanet, NearLink, Record, RecordPrint
from datanets.services import moderation, near_duplicates, near_search, origins, reviews
from tests.datanets.conftest import NOON, make_person

WORDS = [f"{first}{last}" for first in ("plum", "stone", "river", "cloud") for last in "abcdefghij"]


def copies(count: int, first: int = 0) -> list[dict[str, str]]:
    """Plain texts of forty words that differ in one: all meet, and all say the same."""
    rows = []
    for number in range(first, first + count):
        words = list(WORDS)
        words[number % len(words)] = f"other{'xyz'[number // len(words)]}"
        rows.append({"text": " ".join(words)})
    return rows


@pytest.fixture
def pair(published: Datanet, contributor: User, submit: Any) -> list[Record]:
    submit(published, contributor, *copies(2))
    reviews.accept_records(datanet=published, acting_user=published.owner, at=NOON)
    return list(Record.objects.order_by("pk"))


def origin_of(record: Record) -> Record | None:
    return RecordPrint.objects.get(record=record).origin


def test_prints_name_the_version_that_made_them(pair: Any) -> None:
    versions = RecordPrint.objects.values_list("version", flat=True)
    assert set(versions) == {near_duplicates.VERSION}
    assert origin_of(pair[1]) == pair[0]


def test_an_older_print_is_made_again_and_meets_what_it_missed(pair: Any, capsys: Any) -> None:
    """As if the fold of before had seen other letters in the second record."""
    NearLink.objects.all().delete()
    RecordPrint.objects.filter(record=pair[1]).update(
        version=0, bands=list(range(32)), letters="0" * 64, origin=pair[1]
    )
    call_command("remake_prints")
    assert "1 records were compared, 0 prints are left" in capsys.readouterr().out
    assert NearLink.objects.get().record == pair[1]
    assert origin_of(pair[1]) == pair[0]


def test_a_link_that_the_newer_verdict_does_not_give_goes_with_its_role(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similar, "near", lambda a, b: 0.0)
    RecordPrint.objects.update(version=0)
    assert near_duplicates.compare_all() == 2
    assert not NearLink.objects.exists()
    assert [origin_of(one) for one in pair] == pair


def test_a_worker_that_dies_between_prints_and_roles_leaves_neither_wrong(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    RecordPrint.objects.update(version=0)
    with monkeypatch.context() as dying:
        dying.setattr(similar, "near", lambda a, b: 0.0)
        dying.setattr(near_duplicates.origins, "refresh", _die)
        with pytest.raises(KeyboardInterrupt):
            near_duplicates.compare_all()
    assert origin_of(pair[1]) == pair[0]  # still as before
    assert near_duplicates.compare_all() == 0
    assert origin_of(pair[1]) == pair[1]
    assert not RecordPrint.objects.filter(is_settled=False).exists()


def _die(records: Any) -> None:
    raise KeyboardInterrupt


def test_each_batch_stands_by_itself_so_it_goes_on_where_it_was(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    RecordPrint.objects.update(version=0)
    monkeypatch.setattr(near_duplicates, "BATCH", 1)
    found = near_duplicates._compare_batch(waits=False)
    assert found is not None
    assert found[0] == [pair[0].pk]
    assert near_duplicates.stale().get().record == pair[1]
    assert near_duplicates.compare_all() == 1


# ------------------------------------------------------------------ who makes it slow


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often what costs time was called."""
    done: Counter[str] = Counter()
    for name in ("near", "ask_differently"):
        real = getattr(similar, name)

        def counted(*args: Any, name: str = name, real: Any = real) -> Any:
            done[name] += 1
            return real(*args)

        monkeypatch.setattr(similar, name, counted)
    return done


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_search, "READ", 4)
    monkeypatch.setattr(near_search, "LOOKED_AT", 8)


def test_a_flood_of_like_texts_costs_each_record_the_same(
    published: Datanet, contributor: User, submit: Any, work: Counter[str], narrow: None
) -> None:
    submit(published, contributor, *copies(30))
    first = work["near"]
    assert first <= 30 * 4
    submit(published, contributor, *copies(30, 30))
    # Once when the file is checked, once when its records are there.
    assert work["near"] - first <= 2 * 30 * 4
    cut = RecordPrint.objects.filter(is_cut=True).count()
    assert cut == 60  # each met more than four


def test_a_flood_of_one_template_costs_each_record_the_same(
    published: Datanet, contributor: User, submit: Any, work: Counter[str], narrow: None
) -> None:
    answer = " ".join(WORDS)
    submit(
        published,
        contributor,
        *({"question": f"What is the {WORDS[n]} for?", "answer": answer} for n in range(30)),
    )
    assert work["ask_differently"] <= 30 * 8 + work["near"]
    assert RecordPrint.objects.filter(is_cut=True).count() == 30


def test_long_texts_are_read_until_their_cost_is_spent(
    published: Datanet, contributor: User, submit: Any, work: Counter[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(near_search, "COST", 1)
    submit(published, contributor, *copies(10))
    assert work["near"] <= 10
    assert RecordPrint.objects.filter(is_cut=True).count() == 10


def test_a_flood_does_not_push_the_first_one_out(
    published: Datanet, contributor: User, submit: Any, narrow: None
) -> None:
    thief = make_person("thief")
    victim = submit(published, contributor, *copies(1)).records.get()
    submit(published, thief, *copies(30, 1))
    reviews.accept_records(datanet=published, acting_user=published.owner, at=NOON)
    assert set(RecordPrint.objects.values_list("origin", flat=True)) == {victim.pk}


def test_withdrawing_the_first_copies_pays_for_none_of_the_others(
    published: Datanet, contributor: User, submit: Any, narrow: None
) -> None:
    """Each was compared with a few of them alone, and those are gone."""
    submit(published, contributor, *copies(20))
    reviews.accept_records(datanet=published, acting_user=published.owner, at=NOON)
    for record in Record.objects.order_by("pk")[:8]:
        moderation.withdraw_record(record=record, acting_user=contributor, at=NOON)
    near_duplicates.compare_all()
    kept = RecordPrint.objects.exclude(origin=None)
    assert kept.count() == 12
    assert kept.values("origin").distinct().count() == 1


def test_a_person_is_told_that_not_all_were_compared(
    published: Datanet, contributor: User, submit: Any, narrow: None, browser: Any
) -> None:
    submit(published, contributor, *copies(8))
    reviews.accept_records(datanet=published, acting_user=published.owner, at=NOON)
    page = browser(contributor).get(Record.objects.latest("pk").get_absolute_url())
    assert "More records are like this one than it was compared with" in page.content.decode()


def test_a_crowd_beyond_what_is_looked_at_is_told_as_well(
    published: Datanet, contributor: User, submit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_search, "MET_AT_ONCE", 5)
    submit(published, contributor, *copies(10))
    assert RecordPrint.objects.filter(is_cut=True).count() == 10
    origins.refresh(list(Record.objects.values_list("pk", flat=True)))
