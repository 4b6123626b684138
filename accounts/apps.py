from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """The ground floor: people, keys, outbox, events, leases, blobs, audit."""

    name = "accounts"

    def ready(self) -> None:
        from django.urls import reverse

        from accounts import pages

        pages.register("user", lambda pk: reverse("people:by_id", args=[pk]))
