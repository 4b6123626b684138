"""Publishing earnings for claiming: one cumulative Merkle root per epoch for all linked wallets.

At publication the money moves from earnings into escrow, so that no wei can be paid twice. The way
to the chain is in `roots`. Cost: a posting, a leaf and a credit for each account that is paid,
written by a handful of statements whatever their number.
"""

from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Max, Sum

from accounts import audit
from accounts.ids import uuid7
from accounts.models import User
from ledger.chain.distribution import CUMULATIVE_LIMIT
from ledger.errors import InvalidAmount
from ledger.models import Account, Distribution, PayoutAddress
from ledger.services import publishing
from ledger.services.opening import account_for
from ledger.services.pushes import push_small_earnings
from ledger.services.relays import relay_fee
from ledger.services.roots import advance_distributions
from ledger.services.taking_turns import publish_alone


def pay_out(*, at: datetime, acting_user: User | None) -> Distribution | None:
    """What beat does each epoch: push what is small, then publish the rest."""
    push_small_earnings(at=at)
    return publish_distribution(
        at=at, acting_user=acting_user, minimum=settings.DISTRIBUTION_MINIMUM_WEI
    )


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
    publish_alone()
    owed = publishing.gather(minimum=minimum, fee=relay_fee())
    if not owed.accounts:
        return None
    before = PayoutAddress.objects.aggregate(total=Sum("published"))["total"] or 0
    # The contract keeps totals in a uint128.
    if before + owed.amount >= CUMULATIVE_LIMIT:
        raise InvalidAmount("All distributions together must stay below 2**128 wei.")
    distribution_id = uuid7()
    if owed.fees:
        publishing.post_fees(
            owed=owed,
            relay=account_for(Account.Kind.RELAY),
            distribution_id=distribution_id,
            at=at,
            acting_user=acting_user,
        )
    entry = publishing.post_publication(
        owed=owed,
        escrow=account_for(Account.Kind.ESCROW),
        distribution_id=distribution_id,
        at=at,
        acting_user=acting_user,
    )
    publishing.write_leaves(distribution_id=distribution_id, at=at)
    last = Distribution.objects.aggregate(epoch=Max("epoch"))["epoch"] or 0
    distribution = Distribution.objects.create(
        id=distribution_id,
        epoch=last + 1,
        amount=owed.amount,
        entry=entry,
        leaf_count=PayoutAddress.objects.filter(published__gt=0).count(),
        total=before + owed.amount,
        created_at=at,
    )
    audit.record(
        actor=acting_user,
        verb="ledger.distribution_published",
        target=distribution,
        at=at,
        data={
            "epoch": distribution.epoch,
            "amount": str(owed.amount),
            "people": owed.accounts,
            "relay_fees": str(owed.fees),
        },
    )
    return distribution
