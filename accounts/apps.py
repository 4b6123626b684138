from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """The ground floor: people, keys, outbox, events, leases, blobs, audit."""

    name = "accounts"
