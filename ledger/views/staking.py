"""Pools of stakes: what they hold and owe, what one has in them, and how to act with a wallet."""

import re
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts import pages
from ledger import poolslashes, reading, stakepools
from ledger.models import StakePool
from ledger.onchain import current_deployment
from ledger.services.pools import CONTRACT

POOL_ID = re.compile(r"0x[0-9a-f]{64}")


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    rows = stakepools.pool_rows(at=timezone.now())
    return render(
        request,
        "ledger/staking.html",
        {
            "general": [row for row in rows if row.pool.model_id is None],
            "models": [(row, name_of(row.pool)) for row in rows if row.pool.model_id],
            "solvency": stakepools.solvency(),
            "waiting": stakepools.waiting_for_stakers(),
            "mine": [(mine, name_of(mine.position.pool)) for mine in _mine(request)],
            "contract": contract_address(),
            "slashes": poolslashes.slashes()[:20],
            "terms": poolslashes.terms(),
        },
    )


@require_safe
def pool(request: HttpRequest, pool_id: str) -> HttpResponse:
    """One pool; that of a model may be looked at before anybody has staked on it."""
    if not POOL_ID.fullmatch(pool_id):
        raise Http404
    found = StakePool.objects.filter(pool_id=pool_id).first()
    name = name_of(found) if found else _name_of_unopened(pool_id)
    if not name:
        raise Http404
    context: dict[str, Any] = {
        "pool": found,
        "pool_id": pool_id,
        "name": name,
        "chain": reading.chain_for_wallets(),
        "contract": contract_address(),
        "terms": poolslashes.terms(),
    }
    if found:
        context |= {
            "row": stakepools.pool_row(found, at=timezone.now()),
            "mine": stakepools.positions_of(request.user, found),
            "history": stakepools.history_of(request.user, found),
            "slashes": stakepools.slashes_of(found),
            "proposals": poolslashes.on_their_way(found),
            "fundings": stakepools.fundings_of(found)[:20],
            "on_its_way": stakepools.on_its_way(found),
            "waiting": stakepools.waiting_for_model(found),
            "page_of_model": pages.url("model", found.model_id),
        }
    return render(request, "ledger/stake_pool.html", context)


def name_of(pool: StakePool) -> str:
    if pool.model_id is None:
        return f"{pool.name.capitalize()} pool"
    return f"Stakers of {pages.names('model', [pool.model_id])[pool.model_id]}"


def _name_of_unopened(pool_id: str) -> str:
    from ledger.calldata import id_from_word

    model_id = id_from_word(bytes.fromhex(pool_id[2:]))
    known = pages.known_names("model", [model_id]) if model_id else {}
    return f"Stakers of {known[model_id]}" if model_id in known else ""


def _mine(request: HttpRequest) -> Any:
    return stakepools.positions_of(request.user)


def contract_address() -> str:
    """Where StakePools stands; "" without it."""
    deployment = current_deployment()
    if deployment is None or CONTRACT in deployment.missing:
        return ""
    return deployment.address(CONTRACT)
