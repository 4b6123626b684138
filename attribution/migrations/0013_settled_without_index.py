from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("attribution", "0012_index_parts"),
    ]

    operations = [
        migrations.AddField(
            model_name="receiptparent",
            name="without_index",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AlterField(
            model_name="receipt",
            name="outcome",
            field=models.CharField(
                choices=[
                    ("CREDITED", "Contributors were credited"),
                    ("NO_POSITIVE_INFLUENCE", "No positive influence"),
                    ("NO_CLEAR_INFLUENCE", "No clear influence"),
                    ("NO_INDEX", "Its index could not be built"),
                    ("NO_ANSWER", "No answer tokens"),
                    ("NO_CONTRIBUTORS", "A base model has no contributors"),
                ],
                max_length=24,
            ),
        ),
        migrations.AddIndex(
            model_name="receiptparent",
            index=models.Index(
                condition=models.Q(("without_index", True)),
                fields=["-created_at"],
                name="receipt_parent_without_index",
            ),
        ),
    ]
