from django.apps import AppConfig


class ModelfactoryConfig(AppConfig):
    """Base models, recipes, runs, models, evaluations."""

    name = "modelfactory"
