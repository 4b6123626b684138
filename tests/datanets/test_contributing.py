"""From a file to records in the browser, with workers in between; what bad files get."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEvent, Notification, User
from datanets.models import Contribution, Datanet, Record, RowError
from datanets.services import reviews

from .conftest import NOON, ROWS, run_tasks, shared

Browser = Callable[..., Client]


def upload(client: Client, datanet: Datanet, name: str, content: bytes) -> Contribution:
    """Post a file and let the workers read its first rows."""
    url = reverse("datanets:contribute", args=[datanet.slug])
    answer = client.post(url, {"file": SimpleUploadedFile(name, content)})
    assert answer.status_code == 302, answer.content
    run_tasks()
    return Contribution.objects.get(pk=answer["Location"].split("/")[-2])


def check(client: Client, contribution: Contribution, **mapping: str) -> Contribution:
    """Choose columns (the detected ones unless given) and let the workers check."""
    chosen = mapping or contribution.preview["mapping"]
    client.post(contribution.get_absolute_url() + "mapping/", chosen)
    run_tasks()
    contribution.refresh_from_db()
    return contribution


def submit(client: Client, contribution: Contribution, **values: str) -> Contribution:
    values = values or {"licence": contribution.licence, "consent": "yes"}
    client.post(contribution.get_absolute_url() + "submit/", values)
    run_tasks()
    contribution.refresh_from_db()
    return contribution


def as_bytes(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def me(browser: Browser, contributor: User) -> Client:
    return browser(contributor)


def test_a_clean_file_goes_all_the_way(
    me: Client, published: Datanet, contributor: User, reviewer: User
) -> None:
    contribution = upload(me, published, "items.jsonl", as_bytes(ROWS))
    assert contribution.state == "MAPPING"
    page = me.get(contribution.get_absolute_url()).content.decode()
    assert "As the first rows will be read" in page
    assert "It is the item with number 1." in page
    assert check(me, contribution).state == "READY"
    assert not Record.objects.exists()
    assert submit(me, contribution).state == "SUBMITTED"
    records = Record.objects.order_by("row")
    assert [record.row for record in records] == [1, 2, 3, 4, 5, 6]
    assert {record.contributor for record in records} == {contributor}
    assert {record.state for record in records} == {"PENDING"}
    assert records[0].payload["messages"][0] == {"role": "user", "content": "What is item 1?"}
    assert Notification.objects.filter(user=reviewer, kind="datanets.to_review").count() == 1
    verbs = set(AuditEvent.objects.values_list("verb", flat=True))
    assert {"contribution.uploaded", "contribution.mapped", "contribution.checked",
            "contribution.consented", "contribution.submitted"} <= verbs  # fmt: skip
    assert "wait for a reviewer" in me.get(contribution.get_absolute_url()).content.decode()


def test_good_rows_wait_while_the_person_decides(me: Client, published: Datanet) -> None:
    rows = [ROWS[0], {"question": "No answer?"}, ROWS[1], ROWS[0]]
    contribution = check(me, upload(me, published, "a.jsonl", as_bytes(rows)))
    assert contribution.state == "NEEDS_DECISION"
    assert (contribution.rows_good, contribution.rows_refused) == (2, 2)
    assert contribution.rows_duplicate == 1
    assert not Record.objects.exists()
    found = [(e.row, e.column, e.code) for e in RowError.objects.all()]
    assert found == [(2, "answer", "MISSING"), (4, "", "DUPLICATE")]
    page = me.get(contribution.get_absolute_url()).content.decode()
    assert "“answer” is missing. Fill it in or leave the row out." in page
    file = b"".join(me.get(contribution.get_absolute_url() + "refused.jsonl"))
    assert json.loads(file.splitlines()[0]) == {
        "row": 2,
        "column": "answer",
        "code": "MISSING",
        "message": "“answer” is missing. Fill it in or leave the row out.",
        "data": {"question": "No answer?"},
    }
    assert b"MISSING" in b"".join(me.get(contribution.get_absolute_url() + "refused.csv"))
    submit(me, contribution)
    assert Record.objects.count() == 2


def test_refused_rows_may_be_discarded_with_the_rest(me: Client, published: Datanet) -> None:
    contribution = check(me, upload(me, published, "a.jsonl", as_bytes([*ROWS, {}])))
    me.post(contribution.get_absolute_url() + "discard/")
    contribution.refresh_from_db()
    assert (contribution.state, Record.objects.count()) == ("DISCARDED", 0)
    assert submit(me, contribution).state == "DISCARDED"


def test_columns_may_be_chosen_again_after_the_check(me: Client, published: Datanet) -> None:
    rows = as_bytes([{"a": "Why?", "b": "So.", "c": f"Text {n}"} for n in range(3)])
    contribution = upload(me, published, "a.jsonl", rows)
    assert contribution.preview["mapping"] == {}
    check(me, contribution, shape="question_answer", question="a", answer="b")
    assert (contribution.rows_good, contribution.rows_duplicate) == (1, 2)
    check(me, contribution, shape="text", text="c")
    assert (contribution.state, contribution.rows_good) == ("READY", 3)
    assert not contribution.row_errors.exists()


@pytest.mark.parametrize(
    ("name", "content", "code", "word"),
    [
        ("a.jsonl", b"this is prose\nand more prose\n", "NO_ROWS", "Row 1"),
        ("a.jsonl", b"[" * 100_000, "NO_ROWS", "nested"),
        ("a.json", b"[" * 100_000, "TRUNCATED", "never closed"),
        ("a.json", b"[" * 50_000 + b"]" * 50_000, "NO_ROWS", "nested"),
        ("a.jsonl", b" \n\n ", "EMPTY", "empty"),
        ("a.csv", "question,answer\nWas,Käse\n".encode("latin-1"), "ENCODING", "Byte 21"),
        ("a.csv", "question,answer\na,b\n".encode("utf-16"), "ENCODING", "UTF-16"),
        ("a.parquet", b"PAR1 not really PAR1", "PARQUET", "Parquet"),
        ("a.json", b'{"question": \n "a"}', "NOT_AN_ARRAY", "array"),
        ("a.jsonl", b"PK\x03\x04zip", "FORMAT", "zip"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(
    me: Client, published: Datanet, name: str, content: bytes, code: str, word: str
) -> None:
    contribution = upload(me, published, name, content)
    assert (contribution.state, contribution.failure_code) == ("FAILED", code)
    assert word in contribution.failure_reason
    page = me.get(contribution.get_absolute_url())
    assert (page.status_code, code in page.content.decode()) == (200, True)
    assert not Record.objects.exists()


def test_a_file_without_one_good_row_can_be_mapped_again(me: Client, published: Datanet) -> None:
    contribution = upload(me, published, "a.jsonl", as_bytes([{"text": "Hello"}] * 2))
    check(me, contribution, shape="question_answer", question="text", answer="nothing")
    assert (contribution.state, contribution.failure_code) == ("FAILED", "NO_ROWS")
    assert contribution.rejects_id
    check(me, contribution, shape="text", text="text")
    assert (contribution.state, contribution.rows_good) == ("NEEDS_DECISION", 1)


def test_a_broken_end_keeps_the_rows_before_it(me: Client, published: Datanet) -> None:
    content = json.dumps(ROWS).encode()[:-20]
    contribution = check(me, upload(me, published, "a.json", content))
    assert (contribution.state, contribution.rows_good) == ("NEEDS_DECISION", 5)
    assert contribution.row_errors.get().code == "TRUNCATED"


def test_a_text_that_the_datanet_holds_is_refused_and_one_it_rejected_is_not(
    me: Client, submitted: Contribution, owner: User
) -> None:
    datanet = submitted.datanet
    kept, rejected = Record.objects.order_by("row")[:2]
    reviews.reject_records(datanet=datanet, records=[rejected.pk], reason="UNCLEAR",
                           acting_user=owner, at=NOON)  # fmt: skip
    contribution = check(me, upload(me, datanet, "again.jsonl", as_bytes(ROWS[:2])))
    assert (contribution.rows_good, contribution.rows_duplicate) == (1, 1)
    assert str(kept.pk) in contribution.row_errors.get().message


def test_two_people_with_one_text_at_once_make_one_record(
    me: Client, browser: Browser, stranger: User, published: Datanet
) -> None:
    other = browser(stranger)
    first = check(me, upload(me, published, "a.jsonl", as_bytes(ROWS[:3])))
    second = check(other, upload(other, published, "b.jsonl", as_bytes(ROWS[1:4])))
    assert (first.state, second.state) == ("READY", "READY")
    submit(me, first)
    submit(other, second)
    assert Record.objects.count() == 4
    assert (second.rows_good, second.rows_duplicate) == (1, 2)
    assert second.row_errors.count() == 2


def test_consent_and_a_fitting_licence_are_needed(me: Client, published: Datanet) -> None:
    contribution = check(me, upload(me, published, "a.jsonl", as_bytes(ROWS)))
    assert submit(me, contribution, licence="CC-BY-4.0").state == "READY"
    assert submit(me, contribution, licence="CC-BY-NC-4.0", consent="yes").state == "READY"
    assert submit(me, contribution, licence="CC0-1.0", consent="yes").state == "SUBMITTED"
    assert {record.licence for record in Record.objects.all()} == {"CC0-1.0"}


def test_submitting_twice_writes_once(me: Client, published: Datanet) -> None:
    contribution = check(me, upload(me, published, "a.jsonl", as_bytes(ROWS)))
    submit(me, contribution)
    submit(me, contribution)
    assert Record.objects.count() == len(ROWS)


def test_only_an_owner_names_contributors_by_a_column(
    me: Client, browser: Browser, owner: User, published: Datanet
) -> None:
    rows = [{**row, "by": name} for row, name in zip(ROWS, ["Ann", "Bob", "李", "王", "Ann", "Bob"],
                                                     strict=True)]  # fmt: skip
    mapping = {"shape": "question_answer", "question": "question", "answer": "answer",
               "contributor": "by"}  # fmt: skip
    mine = check(me, upload(me, published, "a.jsonl", as_bytes(rows)), **mapping)
    assert mine.state == "MAPPING"
    theirs = browser(owner)
    imported = upload(theirs, published, "a.jsonl", as_bytes(rows))
    shown = theirs.get(imported.get_absolute_url()).content.decode()
    assert "without a login; what they earn waits for them." in shown
    imported = check(theirs, imported, **mapping)
    submit(theirs, imported)
    people = {r.contributor.display_name: r.contributor for r in Record.objects.all()}
    assert set(people) == {"Ann", "Bob", "李", "王"}
    assert people["Ann"].handle == f"{published.slug}-ann"
    assert {person.kind for person in people.values()} == {"UNCLAIMED"}


def test_names_that_look_alike_stay_different_people(
    published: Datanet, owner: User, jsonl: Any
) -> None:
    from datanets.services.imports import import_file

    names = ["C", "C#", "c", "Ann Lee", "ann-lee", "x" * 190, "x" * 191, "李", "王"]
    rows = [{"text": f"Text {n}", "by": name} for n, name in enumerate(names * 2)]
    for _ in range(2):
        import_file(
            datanet=published,
            path=jsonl(rows),
            acting_user=owner,
            at=NOON,
            contributor_column="by",
        )
        rows = [{**row, "text": row["text"] + "!"} for row in rows]
    by_person: dict[Any, set[str]] = {}
    for record in Record.objects.all():
        number = int(record.payload["text"].strip("!").split()[1])
        by_person.setdefault(record.contributor_id, set()).add(names[number % len(names)])
    assert len(by_person) == len(names)
    assert all(len(names) == 1 for names in by_person.values())


def test_the_page_asks_again_only_while_a_worker_is_at_it(me: Client, published: Datanet) -> None:
    contribution = upload(me, published, "a.jsonl", as_bytes(ROWS))
    part = contribution.get_absolute_url() + "?part=1"
    assert 'hx-trigger="every' not in me.get(part).content.decode()
    me.post(contribution.get_absolute_url() + "mapping/", contribution.preview["mapping"])
    assert 'hx-trigger="every' in me.get(part).content.decode()


def test_real_files_are_checked_in_seconds(
    me: Client, published: Datanet, settings: Any, owner: User
) -> None:
    import time

    from datanets.services.imports import import_file

    settings.UPLOAD_FILE_BYTES = 10**9
    started = time.monotonic()
    contribution = import_file(
        datanet=published,
        path=shared("data/medquad/ninds.jsonl"),
        acting_user=owner,
        at=NOON,
        contributor_column="type",
    )
    assert time.monotonic() - started < 20
    assert (contribution.rows_good, contribution.rows_refused) == (1_088, 0)
    assert Record.objects.values("contributor").distinct().count() == 5
