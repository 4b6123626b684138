"""Paying out of a Datanet's treasury."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from datanets.models import Datanet
from datanets.services.treasury import pay_out_treasury
from datanets.views.common import act, with_datanet
from ledger.errors import LedgerError
from ledger.forms import PayOutForm
from ledger.words import open_text


@require_POST
@with_datanet("own")
def pay_out(request: HttpRequest, datanet: Datanet) -> HttpResponse:
    """The owner pays a person of what royalties and slashes brought in."""
    then = f"{datanet.get_absolute_url()}stakes/"
    form = PayOutForm(request.POST)
    if not form.is_valid():
        messages.error(request, form.first_error)
        return redirect(then)
    asked = form.cleaned_data
    values = {**asked, "key": str(asked["key"])}
    done = f"{open_text(asked['amount'])} OPEN were paid to {asked['to']}."
    try:
        return act(request, then, pay_out_treasury, done, datanet=datanet, **values)
    except LedgerError as error:
        messages.error(request, error.message)
        return redirect(then)
