from django.apps import AppConfig


class ServingConfig(AppConfig):
    """Deployments, completions, the OpenAI-compatible API."""

    name = "serving"
