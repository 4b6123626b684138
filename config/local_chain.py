"""A wallet for people who try the product on its local chain and have no browser wallet.

`static/js/local-wallet.js` speaks EIP-1193 to pages and sends each request here; it is passed on
to the development node, whose accounts are unlocked. None of this exists on any other chain id.
"""

import json
from typing import Any

import httpx
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, JsonResponse
from django.views.decorators.http import require_POST

from accounts.models import User, Wallet

# The first accounts of the development mnemonic belong to the product (deployer, relayer, faucet).
RESERVED_ACCOUNTS = 3
READING = {
    "eth_blockNumber",
    "eth_call",
    "eth_chainId",
    "eth_estimateGas",
    "eth_gasPrice",
    "eth_getBalance",
    "eth_getTransactionByHash",
    "eth_getTransactionReceipt",
}
ACCOUNTS = {"eth_accounts", "eth_requestAccounts"}
BODY_LIMIT = 64_000


@login_required
@require_POST
def rpc(request: HttpRequest) -> JsonResponse:
    """Answer one EIP-1193 request of the signed-in person."""
    if not (settings.CHAIN_ENABLED and settings.CHAIN_IS_LOCAL):
        raise Http404
    method, params = _parse(request)
    user = request.user
    assert isinstance(user, User)
    if method in READING:
        return JsonResponse(_forward(method, params))
    account = account_of(user)
    if method in ACCOUNTS:
        return JsonResponse({"result": [account]})
    if method == "personal_sign" and len(params) == 2:
        return JsonResponse(_forward("personal_sign", [params[0], account]))
    if method == "eth_sendTransaction" and len(params) == 1 and isinstance(params[0], dict):
        return JsonResponse(_forward(method, [params[0] | {"from": account}]))
    return JsonResponse({"error": {"code": 4200, "message": f"{method} is not offered here."}})


def account_of(user: User) -> str:
    """The development account this person signs with: a linked one, else the first free one."""
    offered = _forward("eth_accounts", []).get("result", [])[RESERVED_ACCOUNTS:]
    if not offered:
        raise PermissionDenied("The local chain does not answer.")
    lowered = {address.lower(): address for address in offered}
    holders = {
        wallet.address.lower(): wallet.user_id
        for wallet in Wallet.objects.filter(address__iregex="|".join(offered))
    }
    for address, holder in holders.items():
        if holder == user.pk:
            return lowered[address]
    for address in lowered:
        if address not in holders:
            return lowered[address]
    raise PermissionDenied("Every account of the local chain is linked to somebody.")


def _parse(request: HttpRequest) -> tuple[str, list[Any]]:
    if len(request.body) > BODY_LIMIT:
        raise PermissionDenied
    try:
        body = json.loads(request.body)
        method, params = body["method"], body.get("params") or []
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
        raise Http404("That is no EIP-1193 request.") from error
    if not isinstance(method, str) or not isinstance(params, list):
        raise Http404("That is no EIP-1193 request.")
    return method, params


def _forward(method: str, params: list[Any]) -> dict[str, Any]:
    try:
        reply = httpx.post(
            settings.CHAIN_RPC_URL,
            json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params},
            timeout=10,
        ).json()
    except (httpx.HTTPError, ValueError):
        return {"error": {"code": -32603, "message": "The local chain does not answer."}}
    return {key: reply[key] for key in ("result", "error") if key in reply}
