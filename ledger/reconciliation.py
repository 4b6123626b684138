"""Proving the books: each check compares two sums that must be equal to the wei."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import F, QuerySet, Sum

from ledger.models import (
    Account,
    ChainLog,
    Distribution,
    DistributionLeaf,
    Entry,
    Hold,
    Intent,
    PayoutAddress,
    PoolFunding,
    Posting,
    Refund,
    RelayReserve,
    Stake,
    Withdrawal,
    WithdrawalBatch,
)
from ledger.services.pools import owed


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison; `difference` is found less expected, in wei unless the name says rows."""

    name: str
    expected: int
    found: int
    detail: str = ""

    @property
    def difference(self) -> int:
        return self.found - self.expected

    @property
    def holds(self) -> bool:
        return self.difference == 0


def entries_balance() -> Finding:
    """Every entry sums to zero and has all its legs; counts those that do not."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT count(*), min(id::text) FROM (
                SELECT e.id FROM ledger_entry e LEFT JOIN ledger_posting p ON p.entry_id = e.id
                GROUP BY e.id, e.legs
                HAVING coalesce(sum(p.amount), 0) <> 0 OR count(p.id) <> e.legs
            ) broken
            """
        )
        count, example = cursor.fetchone()
    return Finding("entries that do not sum to zero (rows)", 0, int(count), example or "")


def balances_follow_postings() -> Finding:
    """Every balance equals the sum of its account's postings; adds up what is off."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT coalesce(sum(abs(off)), 0), min(id::text) FROM (
                SELECT a.id, a.balance - coalesce(sum(p.amount), 0) AS off
                FROM ledger_account a LEFT JOIN ledger_posting p ON p.account_id = a.id
                GROUP BY a.id, a.balance
            ) compared WHERE off <> 0
            """
        )
        off, example = cursor.fetchone()
    return Finding("balances that differ from their postings", 0, int(off), example or "")


def all_balances_cancel() -> Finding:
    return Finding("sum of all balances", 0, _sum(Account.objects.all(), "balance"))


def nobody_is_overdrawn() -> Finding:
    count = Account.objects.filter(balance__lt=0).exclude(kind__in=Account.EXTERNAL).count()
    return Finding("accounts below zero (rows)", 0, count)


def outside_is_never_owed() -> Finding:
    """What lies outside the house is zero or below; above it the house would owe it to nobody."""
    wrong = Account.objects.filter(balance__gt=0, kind__in=Account.EXTERNAL)
    return Finding("accounts outside the house above zero (rows)", 0, wrong.count())


def suspense_does_not_stay() -> Finding:
    """A receipt empties a completion's suspense within minutes; after a day somebody must look."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT count(*), min(owner_id::text) FROM ledger_account
            WHERE kind = 'SUSPENSE' AND balance > 0 AND created_at < now() - interval '1 day'
            """
        )
        count, example = cursor.fetchone()
    return Finding("suspense older than a day (rows)", 0, int(count), example or "")


def settled_suspense_is_empty() -> Finding:
    settled = Entry.objects.filter(kind=Entry.Kind.SETTLEMENT, reversed_by__isnull=True)
    left = Account.objects.filter(
        kind=Account.Kind.SUSPENSE, owner_id__in=settled.values("cause_id")
    )
    return Finding("suspense of settled completions", 0, _sum(left, "balance"))


def holds_are_set_aside() -> Finding:
    pending = Hold.objects.filter(state=Hold.State.PENDING)
    accounts = Account.objects.filter(kind=Account.Kind.HOLD)
    return Finding("pending holds", _sum(pending, "amount"), _sum(accounts, "balance"))


def withdrawals_are_under_way() -> Finding:
    """What lies in WITHDRAWING is what was asked for and neither paid nor given back."""
    under_way = Withdrawal.objects.filter(state__in=Withdrawal.OPEN)
    accounts = Account.objects.filter(kind=Account.Kind.WITHDRAWING)
    return Finding("withdrawals under way", _sum(under_way, "amount"), _sum(accounts, "balance"))


def batches_are_whole() -> Finding:
    """Each batch pays exactly what its withdrawals ask for."""
    batched = Withdrawal.objects.filter(batch__isnull=False)
    batches = _sum(WithdrawalBatch.objects.all(), "amount")
    return Finding("batches of withdrawals", _sum(batched, "amount"), batches)


def withdrawals_have_intents() -> Finding:
    """What withdrawals in batches wait for is what their intents move out of the Gateway.

    An intent counts until it is settled and nothing of its batch waits any more, less what events
    of its batch have closed already.
    """
    batched = Withdrawal.objects.filter(state__in=Withdrawal.OPEN, batch__isnull=False)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT coalesce(sum(i.outflow - coalesce(b.closed, 0)), 0)
            FROM ledger_intent i LEFT JOIN LATERAL (
                SELECT bool_or(w.state = ANY(%s)) AS waits,
                       sum(w.amount) FILTER (WHERE NOT w.state = ANY(%s)) AS closed
                FROM ledger_withdrawal w WHERE w.batch_id = i.cause_id
            ) b ON true
            WHERE i.kind = 'WITHDRAW' AND (b.waits OR NOT i.state = ANY(%s))
            """,
            [list(Withdrawal.OPEN), list(Withdrawal.OPEN), list(Intent.SETTLED)],
        )
        moving = cursor.fetchone()[0]
    return Finding("intents of withdrawals", _sum(batched, "amount"), int(moving))


def distributions_have_intents() -> Finding:
    """What distributions wait for is what their intents move out of the Gateway; an intent that
    names no distribution counts as well."""
    intents = Intent.objects.filter(kind=Intent.Kind.FUND)
    waiting = Distribution.every.filter(
        funded_at__isnull=True, funding_intent_id__isnull=False
    ).exclude(state=Distribution.State.FAILED)
    stray = intents.exclude(state__in=Intent.SETTLED).exclude(
        cause_id__in=Distribution.every.values("pk")
    )
    named = intents.filter(pk__in=waiting.values("funding_intent_id"))
    return Finding(
        "intents of funding distributions",
        _sum(waiting, "amount"),
        _sum(named, "outflow") + _sum(stray, "outflow"),
    )


def stakes_are_set_aside() -> Finding:
    """What lies on accounts of stakes and bonds is what their rows say is left of them."""
    stakes = Stake.objects.all()
    left = _sum(stakes, "amount") - _sum(stakes, "slashed") - _sum(stakes, "returned")
    accounts = Account.objects.filter(kind=Account.Kind.STAKE)
    return Finding("stakes on contributions, and bonds", left, _sum(accounts, "balance"))


def pools_are_under_way() -> Finding:
    """What lies in POOLING is what was sent to stake pools and neither booked nor given back."""
    under_way = PoolFunding.objects.filter(state__in=PoolFunding.OPEN)
    accounts = Account.objects.filter(kind=Account.Kind.POOLING)
    return Finding("funding of stake pools", _sum(under_way, "amount"), _sum(accounts, "balance"))


def pools_have_intents() -> Finding:
    """Each funding under way is what its intent moves out of the Gateway, where that is not final.

    Final ones wait for their event and count by their own amount; where the event was booked first,
    the funding is closed and its intent counts no more.
    """
    intents = Intent.objects.filter(kind=Intent.Kind.STAKERS)
    under_way = PoolFunding.objects.filter(state__in=PoolFunding.OPEN)
    closed = PoolFunding.objects.exclude(state__in=PoolFunding.OPEN)
    moving = intents.exclude(state__in=Intent.SETTLED).exclude(pk__in=closed.values("intent_id"))
    waiting = under_way.filter(intent_id__in=intents.filter(state=Intent.State.FINAL).values("pk"))
    return Finding(
        "intents of funding stake pools",
        _sum(moving, "outflow") + _sum(waiting, "amount"),
        _sum(under_way, "amount"),
    )


def escrow_is_owed() -> Finding:
    """What lies in escrow is what was published and not claimed."""
    owed = _sum(PayoutAddress.objects.all(), "published") - _sum(
        PayoutAddress.objects.all(), "claimed"
    )
    escrow = Account.objects.filter(kind=Account.Kind.ESCROW)
    return Finding("escrow of distributions", owed, _sum(escrow, "balance"))


def leaves_add_up() -> Finding:
    """The last distribution's total is the sum of all that leaves ever got."""
    last = Distribution.every.first()
    return Finding(
        "leaves of all distributions",
        last.total if last else 0,
        _sum(DistributionLeaf.objects.all(), "amount"),
    )


def leaves_cumulate() -> Finding:
    """What was published to each address is the sum of its leaves; adds up what is off."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT coalesce(sum(abs(off)), 0), min(id::text) FROM (
                SELECT p.id, p.published - coalesce(sum(l.amount), 0) AS off
                FROM ledger_payoutaddress p
                LEFT JOIN ledger_distributionleaf l ON l.payee_id = p.id
                GROUP BY p.id, p.published
            ) compared WHERE off <> 0
            """
        )
        off, example = cursor.fetchone()
    return Finding("addresses that differ from their leaves", 0, int(off), example or "")


def relay_fees_are_set_aside() -> Finding:
    """What lies in RELAY is what was set aside and neither spent nor given back."""
    reserved = RelayReserve.objects.filter(state=RelayReserve.State.RESERVED)
    accounts = Account.objects.filter(kind=Account.Kind.RELAY)
    return Finding("relay fees", _sum(reserved, "amount"), _sum(accounts, "balance"))


def captured_fees_are_split() -> Finding:
    """What holds say was captured is what fees' entries gave to others than the payer."""
    captured = Hold.objects.filter(state=Hold.State.CAPTURED)
    kept = Posting.objects.filter(entry__kind=Entry.Kind.CAPTURE).exclude(
        account__kind__in=[Account.Kind.HOLD, Account.Kind.USER]
    )
    return Finding("captured fees", _sum(captured, "captured"), _sum(kept, "amount"))


def refunds_are_given_back() -> Finding:
    """What refunds say was given back is what their entries gave to payers."""
    reversals = Refund.objects.values("entry")
    given = Posting.objects.filter(
        entry__in=reversals, account__kind__in=[Account.Kind.USER, Account.Kind.RECEIVABLE]
    )
    return Finding("refunded fees", _sum(Refund.objects.all(), "amount"), _sum(given, "amount"))


def refunded_suspense_is_empty() -> Finding:
    refunded = Refund.objects.filter(hold__cause_kind="completion")
    left = Account.objects.filter(
        kind=Account.Kind.SUSPENSE, owner_id__in=refunded.values("hold__cause_id")
    )
    return Finding("suspense of refunded completions", 0, _sum(left, "balance"))


CHECKS: tuple[Callable[[], Finding], ...] = (
    entries_balance,
    balances_follow_postings,
    all_balances_cancel,
    nobody_is_overdrawn,
    outside_is_never_owed,
    holds_are_set_aside,
    stakes_are_set_aside,
    pools_are_under_way,
    pools_have_intents,
    captured_fees_are_split,
    settled_suspense_is_empty,
    refunds_are_given_back,
    refunded_suspense_is_empty,
    suspense_does_not_stay,
    withdrawals_are_under_way,
    withdrawals_have_intents,
    batches_are_whole,
    distributions_have_intents,
    escrow_is_owed,
    leaves_add_up,
    leaves_cumulate,
    relay_fees_are_set_aside,
)


def check_ledger() -> list[Finding]:
    """All checks that need nothing but the ledger's own tables."""
    return [check() for check in CHECKS]


def check_contracts(
    *, gateway_wei: int, distributor_wei: int, deposited_wei: int = 0
) -> list[Finding]:
    """Compare what the contracts held at a final block with the ledger's accounts of them.

    Those are negative. `deposited_wei` came in above that block and is credited already.
    """
    return [
        Finding("OPEN in the Gateway contract", -_external("GATEWAY") - deposited_wei, gateway_wei),
        Finding(
            "OPEN in the RewardDistributor contract", -_external("DISTRIBUTOR"), distributor_wei
        ),
    ]


STAKE_POOLS = "OPEN in the StakePools contract"


def check_stake_pools(*, pools_wei: int) -> Finding:
    """What the contract held against stakes, rewards and slashed wei as they were mirrored."""
    return Finding(STAKE_POOLS, sum(owed().values()), pools_wei)


def credited_above(*, chain_id: int, number: int) -> int:
    """Wei of deposits that are credited, being safe, though their blocks are above `number`."""
    logs = ChainLog.objects.filter(
        block__chain_id=chain_id,
        block__number__gt=number,
        contract="Gateway",
        event="Deposited",
        applied_at__isnull=False,
    )
    return sum(int(arguments["amount"]) for arguments in logs.values_list("arguments", flat=True))


def settled_amounts(completion_ids: Sequence[UUID]) -> dict[UUID, int]:
    """What each completion's settlement paid out, in wei; for comparing with the receipts."""
    settlements = Posting.objects.filter(
        entry__kind=Entry.Kind.SETTLEMENT, entry__cause_id__in=completion_ids, amount__gt=0
    )
    return _by_cause(settlements)


def captured_amounts(completion_ids: Sequence[UUID]) -> dict[UUID, int]:
    """What each completion's capture took as a fee, in wei."""
    captured = Hold.objects.filter(
        state=Hold.State.CAPTURED, cause_kind="completion", cause_id__in=completion_ids
    )
    return dict(captured.values_list("cause_id", "captured"))


def settled_completions() -> QuerySet[Entry, UUID | None]:
    """Completions whose suspense was settled."""
    return Entry.objects.filter(kind=Entry.Kind.SETTLEMENT, reversed_by__isnull=True).values_list(
        "cause_id", flat=True
    )


def _by_cause(postings: QuerySet[Posting]) -> dict[UUID, int]:
    rows = postings.values(cause=F("entry__cause_id")).annotate(total=Sum("amount")).order_by()
    return {row["cause"]: row["total"] for row in rows}


def _external(kind: str) -> int:
    return _sum(Account.objects.filter(kind=kind), "balance")


def _sum(rows: QuerySet[Any], name: str) -> int:
    return int(rows.aggregate(total=Sum(name))["total"] or 0)
