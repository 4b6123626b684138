import django.db.models.deletion
from django.db import migrations, models

# A row that added nothing repeats the address's row of an earlier epoch.
DROP_REPEATED = """
ALTER TABLE ledger_distributionleaf DISABLE TRIGGER USER;
DELETE FROM ledger_distributionleaf WHERE amount = 0;
ALTER TABLE ledger_distributionleaf ENABLE TRIGGER USER;
"""


class Migration(migrations.Migration):
    """A leaf row for those whom an epoch pays; a leaf's place is found by its hash.

    Going back leaves the repeated rows out: their amounts are in the rows before them.
    """

    dependencies = [("ledger", "0009_note_known_deposits")]

    operations = [
        migrations.RunSQL(DROP_REPEATED, migrations.RunSQL.noop),
        migrations.RemoveConstraint(model_name="distributionleaf", name="ledger_leaf_cumulates"),
        migrations.RemoveField(model_name="distributionleaf", name="position"),
        migrations.AlterField(
            model_name="distributionleaf",
            name="distribution",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="leaves",
                to="ledger.distribution",
            ),
        ),
        migrations.AlterField(
            model_name="distributioncredit",
            name="distribution",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="credits",
                to="ledger.distribution",
            ),
        ),
        migrations.AddConstraint(
            model_name="distributionleaf",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount__gt", 0), ("cumulative__gte", models.F("amount"))),
                name="ledger_leaf_cumulates",
            ),
        ),
    ]
