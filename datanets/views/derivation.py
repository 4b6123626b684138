"""Deriving a Datanet from another one's version."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from datanets.errors import DatanetError
from datanets.forms import DeriveForm
from datanets.licences import LICENCES
from datanets.models import Datanet, Version
from datanets.services.derivation import derive_datanet
from datanets.views.common import person, with_datanet
from governance.selectors import current_parameters
from governance.words import percent


@with_datanet("signed in")
@require_http_methods(["GET", "HEAD", "POST"])
def derive(request: HttpRequest, datanet: Datanet, number: int) -> HttpResponse:
    """A card for the new Datanet; what it will pass on stands beside it."""
    version = get_object_or_404(
        Version.objects.select_related("datanet"), datanet=datanet, number=number
    )
    initial = {name: getattr(datanet, name) for name in ("rules", "tags", "licence")}
    form = DeriveForm(request.POST or None, initial=initial, version=version)
    if request.method == "POST" and form.is_valid():
        try:
            made = derive_datanet(
                version=version,
                acting_user=person(request),
                at=timezone.now(),
                **form.cleaned_data,
            )
        except DatanetError as error:
            form.add_error(None, error.message)
        else:
            return redirect("datanets:card", made.slug)
    parameters = current_parameters()
    context: dict[str, Any] = {
        "form": form,
        "version": version,
        "datanet": datanet,
        "licences": LICENCES.values(),
        "royalty": percent(parameters.governed("royalty.datanet_bps")),
        "depth": parameters.governed("royalty.depth"),
    }
    status = 422 if form.errors else 200
    return render(request, "datanets/derive.html", context, status=status)
