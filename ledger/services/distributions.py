"""Publishing earnings for claiming: one cumulative Merkle root per epoch for all linked wallets.

At publication the money moves from earnings into escrow, so that no wei can be paid twice. The way
to the chain is in `roots`. Cost: a posting, a leaf and a credit for each account that is paid,
written by a handful of statements for some thousand accounts in a transaction of their own, so
that nobody's earnings are locked for longer than that takes. Until the last of them the
distribution is GATHERING, which nobody sees as published; where the process dies, the next call
goes on after the last account that was written.
"""

from datetime import datetime, timedelta
from time import monotonic
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Sum

from accounts import audit
from accounts.models import User
from ledger.chain.distribution import CUMULATIVE_LIMIT
from ledger.errors import InvalidAmount, InvalidEntry
from ledger.models import Account, Distribution, PayoutAddress, RelayReserve
from ledger.services import publishing
from ledger.services.opening import account_for
from ledger.services.pushes import push_small_earnings
from ledger.services.relays import relay_fee
from ledger.services.roots import advance_distributions
from ledger.services.taking_turns import publish_alone

State = Distribution.State
# Accounts of one transaction: a second or two in which nobody else pays into them.
AT_ONCE = 10_000
BROKEN_OFF = timedelta(minutes=5)


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
    moment, and what was published to an address stays with that address for ever. Where an earlier
    call did not come to its end, this one ends that distribution instead of beginning another. None
    where there is nothing to publish.
    """
    began = monotonic()
    distribution = _gather_next(None, at, acting_user, minimum)
    while distribution is not None and distribution.state == State.GATHERING:
        later = at + timedelta(seconds=monotonic() - began)
        distribution = _gather_next(distribution, later, acting_user, minimum)
    if distribution is not None:
        # In a transaction of its own: the tree takes long, and the accounts are free meanwhile.
        # Where the process dies in between, beat takes it up.
        advance_distributions(at=at)
        distribution.refresh_from_db()
    return distribution


def resume_publication(*, at: datetime) -> Distribution | None:
    """End a distribution whose gathering broke off: nobody has added to it for BROKEN_OFF."""
    broken = Distribution.every.filter(
        state=State.GATHERING, gathered_at__lt=at - BROKEN_OFF
    ).exists()
    return publish_distribution(at=at, acting_user=None) if broken else None


@transaction.atomic
def _gather_next(
    known: Distribution | None, at: datetime, acting_user: User | None, minimum: int
) -> Distribution | None:
    """Take up AT_ONCE accounts more. `known` is what this call has begun, or found begun.

    Whoever works on the same distribution beside this call takes other accounts, and the one that
    takes the last ends it for both.
    """
    publish_alone()
    rows = Distribution.every.select_for_update(of=("self",))
    if known is None:
        open_one = rows.filter(state=State.GATHERING).first()
    else:
        open_one = rows.get(pk=known.pk)
        if open_one.state != State.GATHERING:
            return open_one
    after = open_one.gathered_until if open_one else None
    fee = open_one.relay_fee if open_one else relay_fee()
    with publishing.by_index():
        owed = publishing.gather(
            minimum=open_one.minimum if open_one else minimum,
            fee=fee,
            after=after,
            at_most=AT_ONCE,
            distribution_id=open_one.pk if open_one else None,
        )
        if open_one is None and not owed.accounts:
            return None
        distribution = open_one or _begin(fee=fee, minimum=minimum, at=at)
        if owed.accounts:
            _book(distribution, owed, after, at, acting_user)
    distribution.gathered_until, distribution.gathered_at = owed.until or after, at
    if owed.is_last:
        _complete(distribution, at, acting_user)
    distribution.save()
    return distribution


def _begin(*, fee: int, minimum: int, at: datetime) -> Distribution:
    last = Distribution.every.first()
    return Distribution(
        epoch=last.epoch + 1 if last else 1,
        state=State.GATHERING,
        amount=0,
        total=last.total if last else 0,
        leaf_count=0,
        minimum=max(1, minimum),
        relay_fee=fee,
        created_at=at,
    )


def _book(
    distribution: Distribution,
    owed: publishing.Owed,
    after: UUID | None,
    at: datetime,
    acting_user: User | None,
) -> None:
    """The entries, leaves and credits of the accounts that were gathered."""
    distribution.amount += owed.amount
    distribution.total += owed.amount
    # The contract keeps totals in a uint128.
    if distribution.total >= CUMULATIVE_LIMIT:
        raise InvalidAmount("All distributions together must stay below 2**128 wei.")
    if owed.fees:
        publishing.post_fees(
            owed=owed,
            relay=account_for(Account.Kind.RELAY),
            distribution_id=distribution.pk,
            after=after,
            at=at,
            acting_user=acting_user,
        )
    entry = publishing.post_publication(
        owed=owed,
        escrow=account_for(Account.Kind.ESCROW),
        distribution_id=distribution.pk,
        after=after,
        at=at,
        acting_user=acting_user,
    )
    if distribution.entry_id is None:
        distribution.entry = entry
    publishing.write_leaves(distribution_id=distribution.pk, at=at)


def _complete(distribution: Distribution, at: datetime, acting_user: User | None) -> None:
    """All accounts are in: from now on it is published.

    Raises InvalidEntry where the addresses' amounts do not make the total.
    """
    published = PayoutAddress.objects.filter(published__gt=0).aggregate(
        total=Sum("published"), leaves=Count("pk")
    )
    if published["total"] != distribution.total:
        raise InvalidEntry(f"The leaves of epoch {distribution.epoch} do not make its total.")
    distribution.leaf_count = published["leaves"]
    distribution.state = State.DRAFT
    fees = RelayReserve.objects.filter(distribution_id=distribution.pk)
    audit.record(
        actor=acting_user,
        verb="ledger.distribution_published",
        target=distribution,
        at=at,
        data={
            "epoch": distribution.epoch,
            "amount": str(distribution.amount),
            "people": distribution.credits.count(),
            "relay_fees": str(fees.aggregate(total=Sum("amount"))["total"] or 0),
        },
    )
