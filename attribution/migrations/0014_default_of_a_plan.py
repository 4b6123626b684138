"""A process of the version before writes indexes without the column while this one is rolled out."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("attribution", "0013_settled_without_index")]

    operations = [
        migrations.AlterField(
            model_name="index",
            name="plan",
            field=models.JSONField(blank=True, db_default={}, default=dict),
        ),
    ]
