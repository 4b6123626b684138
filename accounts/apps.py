from django.apps import AppConfig
from django.db.models.signals import post_migrate


class AccountsConfig(AppConfig):
    """The ground floor: people, keys, outbox, events, leases, blobs, audit."""

    name = "accounts"

    def ready(self) -> None:
        from django.urls import reverse

        from accounts import pages, triggers

        post_migrate.connect(triggers.install_switch, sender=self)
        pages.register("user", lambda pk: reverse("people:by_id", args=[pk]))
