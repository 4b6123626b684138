"""A slash of a stake in a pool: proposed by staff, appealed by its wallet, executed when due."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.people.access import signed_in_user
from ledger import poolslashes, reading
from ledger.errors import LedgerError
from ledger.forms import PoolSlashForm
from ledger.models import SlashFile, StakePool
from ledger.services import poolslashes as services
from ledger.views.staking import contract_address, name_of


@require_safe
def slash(request: HttpRequest, number: int) -> HttpResponse:
    """Whose stake, which share, why, until when it may be appealed, and what became of it."""
    found = get_object_or_404(poolslashes.slashes(), number=number)
    context = {
        "view": poolslashes.view_of(found, request.user),
        "slash": found,
        "pool": found.position.pool,
        "pool_name": name_of(found.position.pool),
        "contract": contract_address(),
        "chain": reading.chain_for_wallets(),
        "longest": services.LONGEST,
    }
    return render(request, "ledger/pool_slash.html", context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def propose(request: HttpRequest, pool_id: str) -> HttpResponse:
    """Staff ask the chain to take a share of a stake, with their evidence."""
    user = signed_in_user(request)
    if not user.is_staff:
        raise PermissionDenied
    pool = get_object_or_404(StakePool, pool_id=pool_id)
    terms = poolslashes.terms()
    rows = poolslashes.slashable(pool, terms)
    limit = terms.limit if terms else 0
    form = PoolSlashForm(
        request.POST or None, limit=limit, addresses=[row.position.address for row in rows]
    )
    if request.method == "POST" and form.is_valid():
        try:
            services.propose_pool_slash(
                pool_id=pool_id, acting_user=user, at=timezone.now(), **form.cleaned_data
            )
        except LedgerError as error:
            form.add_error(None, error.message)
        else:
            messages.success(request, "The chain is asked for it. The staker is told then.")
            return redirect("ledger:stake_pool", pool_id)
    context: dict[str, Any] = {
        "form": form,
        "pool": pool,
        "pool_name": name_of(pool),
        "rows": rows,
        "terms": terms,
    }
    status = 422 if form.errors else 200
    return render(request, "ledger/propose_pool_slash.html", context, status=status)


@login_required
@require_POST
def execute(request: HttpRequest, number: int) -> HttpResponse:
    """Staff have a slash carried out whose window is over."""
    found = get_object_or_404(poolslashes.slashes(), number=number)
    try:
        services.execute_pool_slash(
            slash=found, acting_user=signed_in_user(request), at=timezone.now()
        )
    except LedgerError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, "The chain is asked to carry it out.")
    return redirect(found)


@require_safe
def file(request: HttpRequest, sha256: str) -> HttpResponse:
    """The very bytes whose SHA-256 the chain has."""
    found = get_object_or_404(SlashFile, sha256=f"0x{sha256}")
    answer = HttpResponse(found.body, content_type="application/json; charset=utf-8")
    answer["Content-Disposition"] = f'inline; filename="{sha256[:16]}.json"'
    return answer
