from collections.abc import Callable
from typing import Any

from django.apps import AppConfig
from django.urls import reverse


class DatanetsConfig(AppConfig):
    """Datanets, contributions, records, reviews, versions."""

    name = "datanets"

    def ready(self) -> None:
        from django.contrib.auth.models import AnonymousUser

        from accounts import leases, pages
        from datanets.models import Contribution, Datanet, Slash, Version, VersionBuild
        from datanets.services import contributions, versions

        leases.register(
            Contribution,
            running_states=list(contributions.RETRY),
            requeue=contributions.requeue,
            fail=contributions.fail,
        )
        leases.register(
            VersionBuild,
            running_states=["BUILDING"],
            requeue=versions.requeue,
            fail=versions.fail,
        )

        def page_of(model: Any) -> Callable[[Any], str]:
            def url(identifier: Any) -> str:
                found = model.objects.filter(pk=identifier).first()
                return str(found.get_absolute_url()) if found else ""

            return url

        pages.register("record", lambda pk: reverse("datanets:record", args=[pk]))
        pages.register("contribution", lambda pk: reverse("datanets:contribution", args=[pk]))
        pages.register("slash", page_of(Slash))
        pages.register("datanet", page_of(Datanet))
        # Names stand on public pages of the ledger, so only those that everybody may see.
        public = Datanet.objects.visible_to(AnonymousUser())
        pages.register_names(
            "datanet", lambda ids: dict(public.filter(pk__in=ids).values_list("pk", "name"))
        )
        pages.register("version", page_of(Version))
