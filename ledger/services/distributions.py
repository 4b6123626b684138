"""Publishing earnings for claiming: one cumulative Merkle root per epoch for all linked wallets.

At publication the money moves from earnings into escrow, so that no wei can be paid twice. The way
to the chain is in `roots`. Cost: one row and one posting for each address that is paid, one row for
each that ever was.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Max, Sum

from accounts import audit
from accounts.ids import uuid7
from accounts.models import User, Wallet
from ledger.chain.distribution import CUMULATIVE_LIMIT
from ledger.errors import InvalidAmount
from ledger.models import (
    Account,
    Distribution,
    DistributionCredit,
    DistributionLeaf,
    Entry,
    PayoutAddress,
)
from ledger.services.opening import account_for
from ledger.services.posting import BATCH, Cause, Leg, post_entry
from ledger.services.roots import advance_distributions, one_at_a_time
from ledger.setwise import add_to_published


@dataclass(frozen=True, slots=True)
class Owed:
    """What one user's earnings account holds, and the address that it is published to."""

    account: Account
    user_id: UUID
    address: str

    @property
    def amount(self) -> int:
        return self.account.balance


def publish_distribution(
    *, at: datetime, acting_user: User | None, minimum: int = 1
) -> Distribution | None:
    """Publish all earnings of `minimum` wei and more whose owner has a wallet.

    An account without a wallet keeps its balance. The money goes to the primary wallet of this
    moment, and what was published to an address stays with that address for ever. None where
    there is nothing to publish.
    """
    distribution = _publish(at, acting_user, minimum)
    if distribution is not None:
        # In a transaction of its own: the tree takes long, and the accounts are free meanwhile.
        # Where the process dies in between, beat takes it up.
        advance_distributions(at=at)
        distribution.refresh_from_db()
    return distribution


@transaction.atomic
def _publish(at: datetime, acting_user: User | None, minimum: int) -> Distribution | None:
    one_at_a_time()
    owed = _owed(minimum)
    if not owed:
        return None
    _check_total(owed)
    distribution_id = uuid7()
    total = sum(item.amount for item in owed)
    entry = post_entry(
        kind=Entry.Kind.DISTRIBUTION,
        key=f"distribution:{distribution_id}",
        at=at,
        legs=[
            Leg(account_for(Account.Kind.ESCROW), total),
            *(Leg(item.account, -item.amount) for item in owed),
        ],
        cause=Cause("distribution", distribution_id),
        acting_user=acting_user,
    )
    added = _raise_published(owed)
    leaves = list(PayoutAddress.objects.filter(published__gt=0).order_by("pk"))
    last = Distribution.objects.aggregate(epoch=Max("epoch"))["epoch"] or 0
    distribution = Distribution.objects.create(
        id=distribution_id,
        epoch=last + 1,
        amount=total,
        entry=entry,
        leaf_count=len(leaves),
        total=sum(payee.published for payee in leaves),
        created_at=at,
    )
    _write_leaves(distribution, leaves, added, owed)
    audit.record(
        actor=acting_user,
        verb="ledger.distribution_published",
        target=distribution,
        at=at,
        data={"epoch": distribution.epoch, "amount": str(total), "people": len(owed)},
    )
    return distribution


def _owed(minimum: int) -> list[Owed]:
    """Lock the earnings accounts that have something, and find their owners' wallets."""
    accounts = list(
        Account.objects.select_for_update(no_key=True)
        .filter(kind=Account.Kind.EARNINGS, balance__gte=max(1, minimum))
        .filter(owner_id__in=Wallet.objects.values("user_id"))
        .order_by("pk")
    )
    wallets = dict(
        Wallet.objects.filter(user_id__in=[account.owner_id for account in accounts])
        .order_by("user_id", "-is_primary", "-created_at")
        .distinct("user_id")
        .values_list("user_id", "address")
    )
    return [
        Owed(account, account.owner_id, wallets[account.owner_id])
        for account in accounts
        if account.owner_id in wallets
    ]


def _check_total(owed: Sequence[Owed]) -> None:
    """The contract keeps totals in a uint128."""
    before = PayoutAddress.objects.aggregate(total=Sum("published"))["total"] or 0
    if before + sum(item.amount for item in owed) >= CUMULATIVE_LIMIT:
        raise InvalidAmount("All distributions together must stay below 2**128 wei.")


def _raise_published(owed: Sequence[Owed]) -> dict[UUID, int]:
    """Add what is owed to each address's total; return the amounts added, by PayoutAddress id."""
    by_address: dict[str, int] = defaultdict(int)
    for item in owed:
        by_address[item.address] += item.amount
    PayoutAddress.objects.bulk_create(
        [PayoutAddress(address=address) for address in sorted(by_address)],
        ignore_conflicts=True,
        batch_size=BATCH,
    )
    payees = PayoutAddress.objects.select_for_update().filter(address__in=by_address)
    rows = payees.order_by("pk").values_list("pk", "address")
    added = {pk: by_address[address] for pk, address in rows}
    add_to_published(added)
    return added


def _write_leaves(
    distribution: Distribution,
    leaves: Sequence[PayoutAddress],
    added: dict[UUID, int],
    owed: Sequence[Owed],
) -> None:
    DistributionLeaf.objects.bulk_create(
        [
            DistributionLeaf(
                distribution=distribution,
                payee=payee,
                cumulative=payee.published,
                amount=added.get(payee.pk, 0),
            )
            for payee in leaves
        ],
        batch_size=BATCH,
    )
    payees = {payee.address: payee for payee in leaves}
    DistributionCredit.objects.bulk_create(
        [
            DistributionCredit(
                distribution=distribution,
                user_id=item.user_id,
                payee=payees[item.address],
                amount=item.amount,
            )
            for item in owed
        ],
        batch_size=BATCH,
    )
