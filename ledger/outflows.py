"""How much money a call moves out of our hands, which the caps of the sender count."""

from __future__ import annotations

from ledger.chain import artifacts
from ledger.chain.abi import AbiError

# Functions of the Gateway that move what it holds, and the argument that says how much.
AMOUNTS = {"fundDistributor": "amount", "fundStakers": "amount"}


def outflow(*, gateway: str, to: str, data: bytes, value: int) -> int:
    """Wei that leave the wallet or the Gateway by calling `data` at `to` with `value`."""
    if to.lower() != gateway.lower():
        return value
    try:
        decoded = artifacts.load("Gateway").decode_call(data)
    except AbiError:
        return value
    if decoded is None:
        return value
    function, arguments = decoded
    if function.name == "withdraw":
        return value + sum(payment["amount"] for payment in arguments["payments"])
    return value + int(arguments.get(AMOUNTS.get(function.name, ""), 0))
