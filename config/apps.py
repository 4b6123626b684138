from django.apps import AppConfig


class HouseConfig(AppConfig):
    """The head of the house: home, explorer index, staff dashboard, whole-product commands."""

    name = "config"
    label = "house"
