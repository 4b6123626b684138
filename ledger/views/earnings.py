"""What a person has earned: available, pending and why, claimable, claimed."""

from collections.abc import AsyncIterator
from uuid import UUID

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts import pages, spreadsheets
from accounts.people.access import signed_in_user
from accounts.spreadsheets import Amount, Cell
from ledger import reading, selectors
from ledger.earnings import Filters, groups_of, made_spendable, read_filters, waiting
from ledger.errors import LedgerError
from ledger.forms import AmountForm, RelayForm
from ledger.models import Account, Claim, Posting
from ledger.roles import with_roles
from ledger.services.claims import request_relayed_claim
from ledger.services.relays import relay_fee
from ledger.services.transfers import make_earnings_spendable
from ledger.words import open_text

PAGE = 50


@require_safe
@login_required
def earnings(request: HttpRequest) -> HttpResponse:
    user = signed_in_user(request)
    income = with_roles(selectors.income(user))
    return render(
        request,
        "ledger/earnings.html",
        {
            "earnings": selectors.earnings(user),
            "account": selectors.account_of(user, Account.Kind.EARNINGS),
            "wallet": selectors.payout_wallet(user),
            "groups": groups_of(income, Filters()),
            "waiting": waiting(user, timezone.now()),
            "owed": selectors.owed(user),
            "receivable": selectors.account_of(user, Account.Kind.RECEIVABLE),
            "made_spendable": made_spendable(user),
            "latest": reading.with_names(income[:10], user=user),
            "claims": [reading.claim_progress(c) for c in selectors.claims_of(user)[:20]],
            "chain": reading.chain_for_wallets(),
            "refusals": reading.claim_refusals(),
            "relay_fee": relay_fee(),
            "form": AmountForm(),
        },
    )


@require_safe
@login_required
def entries(request: HttpRequest) -> HttpResponse:
    """The entries behind one figure of the page."""
    income, chosen = _chosen(request)
    page = Paginator(income, PAGE).get_page(request.GET.get("page"))
    return render(
        request,
        "ledger/earnings_entries.html",
        {
            "page": page,
            "about": chosen.about,
            "chosen": chosen,
            "groups": groups_of(income, chosen),
            "rows": reading.with_names(page.object_list, user=request.user),
            "total": selectors.total_of(income),
            "query": chosen.query,
        },
    )


@require_safe
@login_required
def entries_csv(request: HttpRequest) -> StreamingHttpResponse:
    income, _ = _chosen(request)
    return spreadsheets.response("earnings.csv", HEADER, _rows(income))


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
    form = RelayForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Reload the page and look at the fee, then claim again.")
        return redirect("ledger:earnings")
    try:
        made = request_relayed_claim(
            address=address,
            acting_user=signed_in_user(request),
            shown_fee=form.cleaned_data["shown_fee"] or 0,
            at=timezone.now(),
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


def _chosen(request: HttpRequest) -> tuple[QuerySet[Posting], Filters]:
    chosen = read_filters(request.GET.dict())
    return chosen.apply(selectors.income(signed_in_user(request))), chosen


HEADER = [
    "time", "entry", "kind", "wei", "open", "datanet", "model", "completion", "datanet_name",
    "model_name", "role",
]  # fmt: skip
CHUNK = 2_000


async def _rows(income: QuerySet[Posting]) -> AsyncIterator[list[Cell]]:
    """Names are looked up for a chunk of postings at a time."""
    chunk: list[Posting] = []
    async for posting in income.aiterator(chunk_size=CHUNK):
        chunk.append(posting)
        if len(chunk) == CHUNK:
            for row in await sync_to_async(_named)(chunk):
                yield row
            chunk = []
    for row in await sync_to_async(_named)(chunk):
        yield row


def _named(postings: list[Posting]) -> list[list[Cell]]:
    datanets = pages.known_names("datanet", [p.datanet_id for p in postings if p.datanet_id])
    models = pages.known_names("model", [p.model_id for p in postings if p.model_id])
    return [
        [
            posting.entry.effective_at,
            posting.entry_id,
            posting.entry.kind,
            posting.amount,
            Amount(open_text(posting.amount)),
            posting.datanet_id,
            posting.model_id,
            posting.completion_id,
            datanets.get(posting.datanet_id) if posting.datanet_id else None,
            models.get(posting.model_id) if posting.model_id else None,
            posting.role,  # type: ignore[attr-defined]
        ]
        for posting in postings
    ]
