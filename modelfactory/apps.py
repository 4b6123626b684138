from uuid import UUID

from django.apps import AppConfig
from django.urls import reverse


class ModelfactoryConfig(AppConfig):
    """Base models, recipes, runs, models, evaluations."""

    name = "modelfactory"

    def ready(self) -> None:
        from accounts import leases, pages
        from modelfactory.models import BaseModel, Model, Run
        from modelfactory.services import bases, runs

        leases.register(
            Run, running_states=[Run.State.RUNNING], requeue=runs.requeue, fail=runs.fail
        )
        leases.register(
            BaseModel,
            running_states=[BaseModel.State.CHECKING],
            requeue=bases.requeue,
            fail=bases.fail,
        )

        def page_of_model(identifier: UUID | str) -> str:
            model = Model.objects.filter(pk=identifier).only("slug").first()
            return model.get_absolute_url() if model else ""

        pages.register("model", page_of_model)
        # Names stand on public pages of the ledger, so only those that everybody may see.
        pages.register_names(
            "model",
            lambda ids: dict(
                Model.objects.published().filter(pk__in=ids).values_list("pk", "name")
            ),
        )
        pages.register("run", lambda pk: reverse("modelfactory:run", args=[pk]))
