"""Rows that go in by COPY come out as any other row's would."""

import json
from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, connection, models, transaction
from hypothesis import given
from hypothesis import strategies as st

from accounts.copying import copy_rows
from accounts.fields import WeiField
from accounts.ids import uuid7
from accounts.models import OutboxMessage

NAMES = ("id", "created_at", "task", "args", "queue", "key", "available_at")


class Sample(models.Model):
    """A column of each kind that is copied anywhere."""

    id = models.UUIDField(primary_key=True)
    at = models.DateTimeField()
    small = models.PositiveSmallIntegerField()
    big = models.BigIntegerField()
    wei = WeiField()
    word = models.CharField(max_length=40, null=True)
    flag = models.BooleanField()
    document = models.JSONField()

    class Meta:
        app_label = "copying"
        managed = False

    def __str__(self) -> str:
        return str(self.pk)


@pytest.fixture
def sample(db):
    with connection.schema_editor() as editor:
        editor.create_model(Sample)


EVERY = [field.name for field in Sample._meta.fields]


@pytest.mark.parametrize("wei", [0, 1, -1, 10**4 - 1, 10**4, 2**255, 1 - 2**256, 2**256 - 1])
def test_every_kind_of_column_comes_back(sample, wei):
    document = {"text": 'Grüße, \\ "quoted"\n\u2028', "wide": str(2**256), "list": [1, None, True]}
    row = (
        uuid7(), datetime(2026, 11, 27, 1, 2, 3, 456789, tzinfo=UTC), 32_767, -(2**63), wei,
        "ein Wort — 語", False, json.dumps(document),
    )  # fmt: skip
    copy_rows(Sample, EVERY, [(*row[:-1], row[-1].encode())])
    assert Sample.objects.values_list(*EVERY).get() == (*row[:-1], document)


def test_nothing_stays_nothing(sample):
    names = [name for name in EVERY if name != "word"]
    row = (uuid7(), datetime(2026, 11, 27, tzinfo=UTC), 0, 0, 0, True, b"{}")
    copy_rows(Sample, names, [row])
    copy_rows(Sample, EVERY, [(uuid7(), *row[1:5], None, *row[5:])])
    assert list(Sample.objects.values_list("word", flat=True)) == [None, None]


@pytest.mark.django_db
@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8)))
def test_any_text_comes_back(args):
    with transaction.atomic():
        pk, now = uuid7(), datetime(2026, 11, 27, tzinfo=UTC)
        row = (pk, now, "a.tasks.work", json.dumps(args).encode(), "default", None, now)
        copy_rows(OutboxMessage, NAMES, [row])
        assert OutboxMessage.objects.get(pk=pk).args == args
        transaction.set_rollback(True)


@pytest.mark.django_db
def test_a_row_that_stands_already_is_refused_and_none_is_written():
    now = datetime(2026, 11, 27, tzinfo=UTC)
    row = (uuid7(), now, "a.tasks.work", b"[]", "default", None, now)
    with pytest.raises(IntegrityError), transaction.atomic():
        copy_rows(OutboxMessage, NAMES, [row, row])
    assert not OutboxMessage.objects.exists()
