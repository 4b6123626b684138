from django.apps import AppConfig
from django.urls import reverse


class AttributionConfig(AppConfig):
    """Indexes, receipts, the log and what they prove."""

    name = "attribution"

    def ready(self) -> None:
        from accounts import events, leases, pages
        from attribution.models import Attribution, Index
        from attribution.services import anchoring, indexes, receipts

        events.subscribe(
            "modelfactory.model_created", task="attribution.tasks.model_created", queue="attribute"
        )
        leases.register(
            Index, running_states=indexes.IN_WORK, requeue=indexes.requeue, fail=indexes.fail
        )
        leases.register(
            Attribution,
            running_states=receipts.IN_WORK,
            requeue=receipts.requeue,
            fail=receipts.fail,
        )
        anchoring.register()
        pages.register("receipt", lambda pk: reverse("attribution:receipt", args=[pk]))
