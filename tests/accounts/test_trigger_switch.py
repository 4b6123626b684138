"""Triggers ask whether they are switched off, and roll nothing back to find out."""

import pgtrigger
import pytest
from django.db import DatabaseError, connection, transaction

from accounts import triggers
from ledger.models import Account, Entry
from tests.ledger.books import OPEN, fund, person

pytestmark = pytest.mark.django_db


def one(statement, values=()):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone()[0]


def rename_entry():
    with transaction.atomic():
        Entry.objects.update(body_hash="changed")


def test_a_migrated_database_has_the_switch_that_catches_no_error():
    language = one(
        "SELECT l.lanname FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang"
        " WHERE p.proname = '_pgtrigger_should_ignore'"
    )

    assert language == "sql"


def test_every_trigger_asks_the_switch_that_is_put_in_place():
    """Where the library renames its function, this tells it."""
    asking = one("SELECT count(*) FROM pg_proc WHERE prosrc LIKE %s", ["%should_ignore(TG_NAME)%"])

    assert asking == one("SELECT count(*) FROM pg_proc WHERE proname LIKE 'pgtrigger\\_%%'")
    assert '"public"._pgtrigger_should_ignore' in triggers.SWITCH
    assert pgtrigger.core._ignore_func_name() == '"public"._pgtrigger_should_ignore'


def test_it_switches_off_what_is_named_for_as_long_as_it_is_named():
    fund(person("payer"), OPEN)
    with pytest.raises(DatabaseError, match="Cannot update"):
        rename_entry()

    with pgtrigger.ignore("ledger.Entry:is_never_changed"):
        rename_entry()
        with (
            pytest.raises(DatabaseError, match="balance is changed by postings"),
            transaction.atomic(),
        ):
            Account.objects.update(balance=5)

    assert Entry.objects.get().body_hash == "changed"
    with pytest.raises(DatabaseError, match="Cannot update"):
        rename_entry()


def test_a_setting_that_was_left_empty_switches_nothing_off():
    fund(person("payer"), OPEN)
    one("SELECT set_config('pgtrigger.ignore', '', false)")

    with pytest.raises(DatabaseError, match="Cannot update"):
        rename_entry()
