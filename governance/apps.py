from django.apps import AppConfig


class GovernanceConfig(AppConfig):
    """Parameters, proposals, votes, delegates."""

    name = "governance"
