from django.apps import AppConfig


class DatanetsConfig(AppConfig):
    """Datanets, contributions, records, reviews, versions."""

    name = "datanets"
