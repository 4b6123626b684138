"""What may be signed now, and at which price: caps of money, funds, and the price of gas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ledger.chain.jobs import (
    GAS_FLOOR,
    GAS_LIMIT,
    Job,
    Outstanding,
    SenderSettings,
    SenderStore,
)
from ledger.chain.surcharges import ENVELOPE, Surcharge
from ledger.chain.wire import Fees

Item = TypeVar("Item")

# A node takes a replacement only for at least a tenth more; an eighth is what everybody asks for.
BUMP_NUMERATOR, BUMP_DENOMINATOR = 1125, 1000
DAY = 86_400
WHERE_TO_LIFT = "on /staff/ or by `manage.py lift_cap`"


def within_caps(
    store: SenderStore, settings: SenderSettings, *, mined: int, limit: int, now: float
) -> tuple[Sequence[Job], dict[str, str]]:
    """The next intents that the caps let through, and the alarms of those that they do not.

    Where the day's cap is reached, those that move no money go on; so do those whose caps were
    lifted, which count for no day.
    """
    alarms: dict[str, str] = {}
    largest = settings.largest
    jobs = store.new_jobs(limit, mined=mined, at_most=largest)
    if largest is not None and (count := store.hold_back(largest, above=largest)):
        alarms["cap"] = (
            f"{count} intents move more than {largest} wei at once, which is over the cap. They "
            f"wait until you let each through {WHERE_TO_LIFT}, or raise "
            "CHAIN_CAP_TRANSACTION_WEI or CHAIN_CAP_DAY_WEI."
        )
    if settings.day_cap is None:
        return jobs, alarms
    left = max(0, settings.day_cap - store.outflow_since(now - now % DAY))
    outflows = [0 if job.lifted else job.outflow for job in jobs]
    chosen, full = first_that_fit(jobs, outflows, left, moving=outflows)
    if full:
        store.hold_back(settings.day_cap, above=left)
        alarms["day"] = (
            f"Today's cap of {settings.day_cap} wei is reached; the rest waits until midnight UTC, "
            f"until you let it through {WHERE_TO_LIFT}, or raise CHAIN_CAP_DAY_WEI."
        )
    if full and not chosen:
        return store.new_jobs(limit, mined=mined, at_most=0), alarms
    return chosen, alarms


def room_for(settings: SenderSettings, out: Outstanding, block_gas: int) -> tuple[int, int]:
    """How many more may be signed now, and for how much gas together.

    Counts with what those on their way may use on average, so that a full pool costs no estimates.
    Where nothing is on its way one always goes, however large it is.
    """
    count = min(settings.batch, settings.in_flight - out.count)
    if not block_gas:
        return count, count * GAS_LIMIT
    gas = settings.in_flight_blocks * block_gas - out.gas
    if out.count == 0:
        return count, max(gas, GAS_LIMIT)
    return min(count, gas // max(GAS_FLOOR, out.gas // out.count)), gas


def within_gas(
    jobs: Sequence[Job], ready: Sequence[tuple[Job, int]], room: int
) -> tuple[Sequence[Job], Sequence[tuple[Job, int]]]:
    """The jobs before the first that does not fit into `room` any more, and those of them ready.

    None behind that one is looked at: what would revert now may wait for it.
    """
    gas = {job.id: wanted for job, wanted in ready}
    for place, job in enumerate(jobs):
        room -= gas.get(job.id, 0)
        if room < 0:
            left = {one.id for one in jobs[:place]}
            return jobs[:place], [one for one in ready if one[0].id in left]
    return jobs, ready


def affordable(
    ready: Sequence[tuple[Job, int]], fees: Fees, budget: int, on_top: Surcharge
) -> tuple[Sequence[tuple[Job, int]], bool]:
    """Those that the wallet can pay for, and whether there was one that it cannot: that one would
    block the nonces behind it."""
    costs = [
        job.value + gas * fees.maximum + on_top.of(count=1, size=len(job.data) + ENVELOPE, gas=gas)
        for job, gas in ready
    ]
    return first_that_fit(ready, costs, budget, moving=[job.value for job, _ in ready])


def first_that_fit(
    items: Sequence[Item], sizes: Sequence[int], room: int, *, moving: Sequence[int]
) -> tuple[list[Item], bool]:
    """Items in order while they fit into `room`, and whether one did not.

    One that moves money is not overtaken by another that does, or it might never go.
    """
    chosen: list[Item] = []
    full = False
    for item, size, moves in zip(items, sizes, moving, strict=True):
        if size > room or (full and moves):
            full = True
            continue
        room -= size
        chosen.append(item)
    return chosen, full


def capped(fees: Fees, cap: int) -> Fees:
    maximum = min(fees.maximum, cap)
    return Fees(maximum, min(fees.priority, maximum))


def raised(last: Fees, market: Fees, cap: int) -> Fees | None:
    """At least an eighth more of both prices, and what the market asks; None where that is over
    the cap."""
    maximum, priority = eighth_more(last.maximum), eighth_more(last.priority)
    if maximum > cap or priority > cap:
        return None
    market = capped(market, cap)
    maximum = max(maximum, market.maximum)
    return Fees(maximum, min(maximum, max(priority, market.priority)))


def eighth_more(wei: int) -> int:
    return -(-wei * BUMP_NUMERATOR // BUMP_DENOMINATOR) + 1
