"""Totals no longer hold what somebody paid for what is their own: they are added up anew, by steps."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("attribution", "0016_failed_without_index"),
    ]

    operations = [
        migrations.RunSQL(
            "DELETE FROM attribution_credittotal; DELETE FROM attribution_credithorizon",
            migrations.RunSQL.noop,
        ),
    ]
