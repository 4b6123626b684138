"""Taking OPEN out to a wallet of one's own, and how far that is."""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts.models import User
from accounts.people.access import signed_in_user
from ledger import reading, selectors
from ledger.errors import LedgerError
from ledger.forms import WithdrawalForm
from ledger.models import Account, Withdrawal
from ledger.services.withdrawals import request_withdrawal, withdrawn_in_a_day
from ledger.words import open_text

SHOWN = 5


@require_POST
@login_required
def withdraw(request: HttpRequest) -> HttpResponse:
    user = signed_in_user(request)
    form = WithdrawalForm(request.POST, addresses=_addresses(user))
    if not form.is_valid():
        messages.error(request, form.first_error)
        return redirect("ledger:wallet")
    asked = form.cleaned_data
    try:
        withdrawal = request_withdrawal(
            user=user,
            source=Account.Kind(asked["source"]),
            address=asked["address"],
            amount=asked["amount"],
            key=str(asked["key"]),
            acting_user=user,
            at=timezone.now(),
        )
    except LedgerError as error:
        messages.error(request, error.message)
    else:
        messages.success(
            request, f"{open_text(withdrawal.amount)} OPEN are on their way to your wallet."
        )
    return redirect("ledger:wallet")


@require_safe
@login_required
def withdrawal_state(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The progress of one withdrawal, asked for again while it is under way."""
    mine = Withdrawal.objects.filter(user=signed_in_user(request))
    found = get_object_or_404(mine.select_related("batch"), pk=pk)
    return render(
        request,
        "ledger/withdrawal_state.html",
        {"withdrawal": reading.withdrawal_progress(found)},
    )


def part(user: User) -> dict[str, Any]:
    """What the wallet page shows of withdrawing; without a chain there is nothing to show."""
    if not settings.CHAIN_ENABLED:
        return {}
    addresses = _addresses(user)
    limit = settings.WITHDRAWAL_DAY_LIMIT_WEI
    rows = Withdrawal.objects.filter(user=user).select_related("batch")[:SHOWN]
    return {
        "withdrawing": {
            "form": WithdrawalForm(addresses=addresses) if addresses else None,
            "minimum": settings.WITHDRAWAL_MINIMUM_WEI,
            "limit": limit,
            "left": max(0, limit - withdrawn_in_a_day(user, timezone.now())),
            "spendable": selectors.balance(user),
            "earned": selectors.earned_and_here(user),
            "rows": [reading.withdrawal_progress(row) for row in rows],
        }
    }


def _addresses(user: User) -> list[str]:
    wallets = user.wallets.order_by("-is_primary", "-created_at")
    return list(wallets.values_list("address", flat=True))
