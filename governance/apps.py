from django.apps import AppConfig
from django.urls import reverse


class GovernanceConfig(AppConfig):
    """Parameters, proposals, votes, delegates."""

    name = "governance"

    def ready(self) -> None:
        from accounts import events, pages
        from governance import selectors
        from ledger import governed

        events.subscribe("ledger.chain_logs", task="governance.tasks.mirror")
        events.subscribe("ledger.chain_rewound", task="governance.tasks.rebuild")
        pages.register("proposal", lambda number: reverse("governance:proposal", args=[number]))
        governed.provide(selectors.governed)
