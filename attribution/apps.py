from collections.abc import Callable
from uuid import UUID

from django.apps import AppConfig
from django.urls import reverse


def _over_time(kind: str) -> Callable[[UUID | str], str]:
    return lambda pk: reverse("attribution:over_time", args=[kind, pk])


class AttributionConfig(AppConfig):
    """Indexes, receipts, the log and what they prove."""

    name = "attribution"

    def ready(self) -> None:
        from accounts import events, leases, pages
        from attribution.models import (
            Attribution,
            Checkpoint,
            ExactAudit,
            Index,
            IndexPart,
            Rescoring,
            SpanIndex,
        )
        from attribution.services import (
            anchoring,
            exact_audits,
            index_parts,
            indexes,
            receipts,
            rescorings,
            span_indexes,
        )

        events.subscribe(
            "modelfactory.model_created", task="attribution.tasks.model_created", queue="attribute"
        )
        leases.register(
            Index, running_states=indexes.IN_WORK, requeue=indexes.requeue, fail=indexes.fail
        )
        leases.register(
            IndexPart,
            # A part that waits needs no lease: its index has one while it is SPREAD.
            running_states=[IndexPart.State.BUILDING],
            requeue=index_parts.requeue,
            fail=index_parts.give_up,
        )
        for verb in ("withdrawn", "taken_down"):
            events.subscribe(
                f"datanets.record_{verb}",
                task="attribution.tasks.record_withheld",
                queue="attribute",
            )
        leases.register(
            SpanIndex,
            running_states=span_indexes.IN_WORK,
            requeue=span_indexes.requeue,
            fail=span_indexes.fail,
        )
        leases.register(
            Attribution,
            running_states=receipts.IN_WORK,
            requeue=receipts.requeue,
            fail=receipts.fail,
        )
        leases.register(
            Rescoring,
            running_states=rescorings.IN_WORK,
            requeue=rescorings.requeue,
            fail=rescorings.fail,
        )
        leases.register(
            ExactAudit,
            running_states=exact_audits.IN_WORK,
            requeue=exact_audits.requeue,
            fail=exact_audits.fail,
        )
        anchoring.register()

        def page_of_checkpoint(identifier: UUID | str) -> str:
            head = Checkpoint.objects.filter(pk=identifier).only("size").first()
            return reverse("attribution:log_checkpoint_page", args=[head.size]) if head else ""

        pages.register("checkpoint", page_of_checkpoint)
        pages.register(
            "receipt_of_completion", lambda pk: reverse("attribution:receipt_for", args=[pk])
        )
        for kind in ("contributor", "datanet", "model", "record"):
            pages.register(f"influence_of_{kind}", _over_time(kind))
        pages.register("index_of_model", lambda pk: reverse("attribution:index_of", args=[pk]))
        pages.register("receipt", lambda pk: reverse("attribution:receipt", args=[pk]))
        pages.register("rescoring", lambda pk: reverse("attribution:rescored", args=[pk]))
        pages.register("exact_audit", lambda pk: reverse("attribution:exact", args=[pk]))
