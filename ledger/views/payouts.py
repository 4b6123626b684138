"""How a person wants to be paid: claims with their own wallet or sent for a fee, and pushes."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from accounts.people.access import signed_in_user
from ledger import selectors
from ledger.errors import LedgerError
from ledger.forms import PayoutForm
from ledger.models import PayoutChoice
from ledger.payoutchoices import choices_of, fees_of
from ledger.services.relays import choose_payouts

PAGE = 25
DONE = {
    PayoutChoice.Claims.OWN: "You claim with your own wallet; nothing is set aside.",
    PayoutChoice.Claims.ASK: "From your next earnings on, a relay fee is set aside for a claim.",
    PayoutChoice.Claims.AUTO: "From your next earnings on, we claim for you.",
}


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def choices(request: HttpRequest) -> HttpResponse:
    user = signed_in_user(request)
    if request.method == "POST":
        return _choose(request)
    now = choices_of(user)
    initial = {
        "claims": now.choice.claims,
        "push": now.choice.push,
        "shown_fee": now.relay_fee,
    }
    return render(
        request,
        "ledger/payout_choices.html",
        {
            "choices": now,
            "form": PayoutForm(initial=initial),
            "wallet": selectors.payout_wallet(user),
            "page": Paginator(fees_of(user), PAGE).get_page(request.GET.get("page")),
        },
    )


def _choose(request: HttpRequest) -> HttpResponse:
    user = signed_in_user(request)
    form = PayoutForm(request.POST)
    if not form.is_valid():
        messages.error(request, form.first_error)
        return redirect("ledger:payout_choices")
    claims = PayoutChoice.Claims(form.cleaned_data["claims"])
    try:
        choose_payouts(
            user=user,
            claims=claims,
            push=form.cleaned_data["push"],
            shown_fee=form.cleaned_data["shown_fee"],
            acting_user=user,
            at=timezone.now(),
        )
    except LedgerError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, DONE[claims])
    return redirect("ledger:payout_choices")
