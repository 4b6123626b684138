"""`manage.py verify` finds whatever was changed: body, private part, index, rows, books."""

import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import connection

from accounts.models import Blob
from attribution.models import Index, RecordInfluence
from ledger.models import Posting

pytestmark = pytest.mark.django_db


@pytest.fixture
def receipt(indexed):
    return indexed.receipt()


def verify(identifier, **options):
    out = StringIO()
    call_command("verify", str(identifier), stdout=out, **options)
    return out.getvalue()


def failures(identifier):
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("verify", str(identifier), stdout=out, format="json")
    report = json.loads(out.getvalue())
    assert not report["holds"]
    return {check["name"] for check in report["checks"] if check["holds"] is False}


def overwrite(table, pk, column, value):
    """Change a row behind the triggers' back, as somebody with the database could."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        cursor.execute(f"UPDATE {table} SET {column} = %s WHERE id = %s", [value, pk])
        cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


def test_a_true_receipt_holds_by_its_id_and_by_its_completions(receipt):
    said = verify(receipt.pk)
    assert "to the last unit" in said
    assert said.endswith("holds.\n")
    assert verify(receipt.completion_id) == said
    assert json.loads(verify(receipt.pk, format="json"))["holds"]


def test_receipts_without_contributors_hold(indexed):
    assert "holds." in verify(indexed.receipt(base_only=True).pk)
    assert "holds." in verify(indexed.receipt(answer="").pk)


def test_a_changed_body_is_found(receipt):
    public = receipt.public | {"contributors_amount": "1"}
    overwrite("attribution_receipt", receipt.pk, "public", json.dumps(public))
    assert {"receipt", "public part", "settled"} <= failures(receipt.pk)


def test_a_changed_private_part_is_found(receipt):
    receipt.private["salt"] = "00" * 32
    receipt.save(update_fields=["private"])
    assert failures(receipt.pk) == {"private part"}


def test_a_changed_salt_is_found(receipt):
    receipt.private["payer"]["prompt_salt"] = "00" * 32
    receipt.save(update_fields=["private"])
    assert failures(receipt.pk) == {"private part"}


def test_a_changed_sketch_is_found(receipt):
    path = default_storage.path(Blob(sha256=receipt.sketch_id).path)
    with Path(path).open("r+b") as file:
        first = file.read(1)[0]
        file.seek(0)
        file.write(bytes([first ^ 1]))
    assert "private part" in failures(receipt.pk)


def test_a_changed_index_file_is_found(receipt, settings):
    row = Index.objects.get()
    folder = settings.DATA_DIR / "cache" / "indexes" / row.root
    data = bytearray((folder / "sums.npy").read_bytes())
    data[-1] ^= 1
    (folder / "sums.npy").write_bytes(data)
    assert {"index", "influences"} <= failures(receipt.pk)


def test_an_index_that_is_gone_from_this_machine_is_fetched_again(receipt, settings):
    import shutil

    shutil.rmtree(settings.DATA_DIR / "cache")
    assert "holds." in verify(receipt.pk)


def test_another_credit_on_the_page_is_found(receipt):
    share = receipt.shares.first()
    share.amount += 1
    share.save()
    assert failures(receipt.pk) == {"rows"}


def test_another_record_on_the_page_is_found(receipt):
    line = RecordInfluence.objects.filter(receipt=receipt).first()
    line.influence += 1
    line.save()
    assert failures(receipt.pk) == {"records shown"}


def test_a_changed_posting_is_found(receipt):
    posting = Posting.objects.filter(entry_id=receipt.entry_id, amount__gt=0).first()
    overwrite("ledger_posting", posting.pk, "amount", posting.amount + 1)
    assert failures(receipt.pk) == {"settled"}


@pytest.mark.parametrize("wrong", ["nonsense", "01a1fcf5-07eb-7b28-be75-89a788d6e852"])
def test_an_unknown_receipt_is_an_error(db, wrong):
    with pytest.raises(CommandError) as caught:
        verify(wrong)
    assert caught.value.returncode == 2


def test_a_key_that_is_not_the_logs_is_told(receipt):
    from attribution.services.log import log_key
    from attribution.translog.checkpoint import load_or_create_key

    assert "holds." in verify(receipt.pk, key=str(log_key().verifier))
    other = load_or_create_key(log_key_folder() / "other", log_key().name)
    with pytest.raises(CommandError, match="does not hold"):
        verify(receipt.pk, key=str(other.verifier))


def log_key_folder():
    from django.conf import settings

    return settings.LOG_KEY_PATH.parent
