"""What a person has earned: available, pending and why, claimable, claimed."""

import csv
from collections.abc import AsyncIterator
from datetime import date
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts.people.access import signed_in_user
from ledger import reading, selectors
from ledger.errors import LedgerError
from ledger.forms import AmountForm
from ledger.models import Account, Claim, Posting
from ledger.services.claims import request_relayed_claim
from ledger.services.transfers import make_earnings_spendable
from ledger.words import open_text

PAGE = 50


@require_safe
@login_required
def earnings(request: HttpRequest) -> HttpResponse:
    user = signed_in_user(request)
    income = selectors.income(user)
    return render(
        request,
        "ledger/earnings.html",
        {
            "earnings": selectors.earnings(user),
            "account": selectors.account_of(user, Account.Kind.EARNINGS),
            "wallet": selectors.payout_wallet(user),
            "groups": reading.groups_of(income),
            "latest": reading.with_names(income[:10], user=user),
            "claims": [reading.claim_progress(c) for c in selectors.claims_of(user)[:20]],
            "chain": reading.chain_for_wallets(),
            "form": AmountForm(),
        },
    )


@require_safe
@login_required
def entries(request: HttpRequest) -> HttpResponse:
    """The entries behind one figure of the page."""
    income, about = _filtered(request)
    page = Paginator(income, PAGE).get_page(request.GET.get("page"))
    return render(
        request,
        "ledger/earnings_entries.html",
        {
            "page": page,
            "about": about,
            "rows": reading.with_names(page.object_list, user=request.user),
            "total": selectors.total_of(income),
            "query": request.GET.urlencode(),
        },
    )


@require_safe
@login_required
def entries_csv(request: HttpRequest) -> StreamingHttpResponse:
    income, _ = _filtered(request)
    response = StreamingHttpResponse(_csv_lines(income), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="earnings.csv"'
    return response


@require_POST
@login_required
def spend(request: HttpRequest) -> HttpResponse:
    """Move earnings to the spendable balance."""
    user = signed_in_user(request)
    form = AmountForm(request.POST)
    if not form.is_valid():
        messages.error(request, form.first_error)
        return redirect("ledger:earnings")
    amount = form.cleaned_data["amount"]
    try:
        make_earnings_spendable(
            user=user,
            amount=amount,
            key=str(form.cleaned_data["key"]),
            acting_user=user,
            at=timezone.now(),
        )
    except LedgerError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, f"{open_text(amount)} OPEN are in your spendable balance.")
    return redirect("ledger:earnings")


@require_POST
@login_required
def claim(request: HttpRequest, address: str) -> HttpResponse:
    """Have our relayer claim for one of the person's own wallets."""
    try:
        made = request_relayed_claim(
            address=address, acting_user=signed_in_user(request), at=timezone.now()
        )
    except LedgerError as error:
        messages.error(request, error.message)
    else:
        messages.success(
            request, f"{open_text(made.amount)} OPEN are on their way to {made.payee.address}."
        )
    return redirect("ledger:earnings")


@require_safe
@login_required
def claim_state(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The progress of one claim, asked for again and again until it is final."""
    claim = get_object_or_404(
        Claim.objects.filter(payee__in=selectors.addresses_of(signed_in_user(request))), pk=pk
    )
    return render(request, "ledger/claim_state.html", {"claim": reading.claim_progress(claim)})


def _filtered(request: HttpRequest) -> tuple[QuerySet[Posting], str]:
    """Income under ?datanet=, ?model= and ?day=; what cannot be read is left out."""
    income = selectors.income(signed_in_user(request))
    about = []
    for name in ("datanet", "model"):
        value = request.GET.get(name)
        if value == "none":
            income = income.filter(**{f"{name}_id__isnull": True})
            about.append(reading.NAMELESS[name])
        elif value and (pk := _uuid(value)) is not None:
            income = income.filter(**{f"{name}_id": pk})
            about.append(reading.name_of(name, pk))
    day = _day(request.GET.get("day", ""))
    if day is not None:
        income = income.filter(entry__effective_at__date=day)
        about.append(day.isoformat())
    return income, ", ".join(about)


class _Echo:
    """A file that gives back what is written, so that csv.writer can stream."""

    def write(self, value: str) -> str:
        return value


HEADER = ["time", "entry", "kind", "wei", "open", "datanet", "model", "completion"]


async def _csv_lines(income: QuerySet[Posting]) -> AsyncIterator[Any]:
    writer = csv.writer(_Echo())
    yield writer.writerow(HEADER)
    async for posting in income.aiterator(chunk_size=2_000):
        yield writer.writerow(
            [
                posting.entry.effective_at.isoformat(),
                posting.entry_id,
                posting.entry.kind,
                posting.amount,
                open_text(posting.amount),
                posting.datanet_id or "",
                posting.model_id or "",
                posting.completion_id or "",
            ]
        )


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
