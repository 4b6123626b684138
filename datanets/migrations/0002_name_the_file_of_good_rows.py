"""`clean` hid the model's own method of that name."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("datanets", "0001_initial")]

    operations = [
        migrations.RenameField(model_name="contribution", old_name="clean", new_name="good_file"),
    ]
