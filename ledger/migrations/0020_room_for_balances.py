from django.db import migrations

# A row that is changed in no indexed column stays in its page, and no index is touched, where the
# page has room for its next version. A publication changes each of these rows once, so half a
# page is what it needs; pages that are full already get it as their rows move.
TABLES = ("ledger_account", "ledger_payoutaddress")


class Migration(migrations.Migration):
    """Leave room beside the rows whose totals every payment changes."""

    dependencies = [("ledger", "0019_gather_in_parts")]

    operations = [
        migrations.RunSQL(
            f"ALTER TABLE {table} SET (fillfactor = 50)",
            f"ALTER TABLE {table} RESET (fillfactor)",
        )
        for table in TABLES
    ]
