from collections.abc import Callable
from uuid import UUID

from django.apps import AppConfig
from django.urls import reverse

from accounts import pages

PAGES = ("entry", "account", "distribution", "intent", "transaction", "block", "address")


class LedgerConfig(AppConfig):
    """Double-entry accounts, holds, distributions, claims, the chain's mirror."""

    name = "ledger"

    def ready(self) -> None:
        from accounts import events
        from ledger import checks  # noqa: F401 - registers them
        from ledger.services import mirror

        mirror.register()
        events.subscribe("ledger.chain_logs", task="ledger.tasks.mirror_pools")
        events.subscribe("ledger.chain_rewound", task="ledger.tasks.rebuild_pools")
        for kind in PAGES:
            pages.register(kind, _page(f"ledger:{kind}"))


def _page(name: str) -> Callable[[UUID | str], str]:
    def url(identifier: UUID | str) -> str:
        return reverse(name, args=[identifier])

    return url
