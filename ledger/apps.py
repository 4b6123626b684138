from django.apps import AppConfig


class LedgerConfig(AppConfig):
    """Double-entry accounts, holds, distributions, claims, the chain's mirror."""

    name = "ledger"
