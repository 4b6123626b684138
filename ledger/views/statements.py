"""Statements by month: a page that prints well, and the same as a file."""

from collections.abc import AsyncIterator
from datetime import date

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts import spreadsheets
from accounts.models import User
from accounts.people.access import signed_in_user
from accounts.spreadsheets import Amount, Cell
from ledger import statements
from ledger.errors import InvalidMonth
from ledger.months import bounds, parse_month
from ledger.words import open_text


@require_safe
@login_required
def index(request: HttpRequest) -> HttpResponse:
    months = statements.months(signed_in_user(request), timezone.now())
    return render(request, "ledger/statements.html", {"months": months})


@require_safe
@login_required
def statement(request: HttpRequest, month: str) -> HttpResponse:
    user, first = signed_in_user(request), _month(month)
    found = statements.statement(user, first, timezone.now())
    context = {"statement": found, "month": first, "made_at": timezone.now()}
    return render(request, "ledger/statement.html", context)


@require_safe
@login_required
def statement_csv(request: HttpRequest, month: str) -> StreamingHttpResponse:
    first = _month(month)
    rows = _rows(signed_in_user(request), first)
    return spreadsheets.response(f"statement-{first:%Y-%m}.csv", HEADER, rows)


HEADER = [
    "account", "time", "kind", "entry", "wei", "open", "balance_wei", "balance_open",
    "datanet", "model", "completion",
]  # fmt: skip


async def _rows(user: User, month: date) -> AsyncIterator[list[Cell]]:
    """For each account the opening balance, each posting with the balance after it, the closing."""
    start, end = bounds(month)
    found = await sync_to_async(statements.statement)(user, month, timezone.now())
    postings = statements.postings_in(user, month)
    for one in found.accounts:
        balance = one.opening
        yield [one.account.kind, start, "OPENING", None, None, None, *_both(balance)]
        mine = postings.filter(account=one.account)
        async for posting in mine.aiterator(chunk_size=2_000):
            balance += posting.amount
            yield [
                one.account.kind,
                posting.entry.effective_at,
                posting.entry.kind,
                posting.entry_id,
                *_both(posting.amount),
                *_both(balance),
                posting.datanet_id,
                posting.model_id,
                posting.completion_id,
            ]
        yield [one.account.kind, end, "CLOSING", None, None, None, *_both(balance)]


def _both(wei: int) -> tuple[Cell, Cell]:
    return wei, Amount(open_text(wei))


def _month(text: str) -> date:
    try:
        return parse_month(text)
    except InvalidMonth as error:
        raise Http404(error.message) from error
