"""What has failed since its index did is told by a column, where the words of its reason did."""

from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("attribution", "0015_each_key_indexed_once"),
        ("modelfactory", "0003_parents_of_models"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="attribution",
            name="lacks_index",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddIndex(
            model_name="attribution",
            index=models.Index(
                condition=models.Q(("lacks_index", True)),
                fields=["created_at"],
                name="attribution_without_index",
            ),
        ),
        migrations.RunSQL(
            """
            UPDATE attribution_attribution SET lacks_index = true
            WHERE state = 'FAILED'
                AND failure_reason LIKE 'The index of the model could not be built:%'
            """,
            migrations.RunSQL.noop,
        ),
    ]
