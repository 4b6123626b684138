from django.apps import AppConfig


class AttributionConfig(AppConfig):
    """Indexes, receipts, the log and what they prove."""

    name = "attribution"
