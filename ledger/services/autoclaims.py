"""What follows when a distribution is in force: people are told, and claimed for who asked for it.

Both run by task, a few hundred people at a time; a task that comes twice tells and claims once.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery

from accounts.models import Notification, User, Wallet
from ledger.errors import LedgerError
from ledger.models import (
    Claim,
    Distribution,
    DistributionLeaf,
    PayoutAddress,
    PayoutChoice,
    RelayReserve,
)
from ledger.selectors import active_distribution
from ledger.services.claims import request_relayed_claim
from ledger.services.relays import relay_fee
from ledger.words import open_text

AT_ONCE = 500
TOLD = "ledger.claimable"


def tell_claimable(*, distribution_id: UUID, at: datetime) -> int:
    """Tell everybody whose earnings are in the distribution; returns how many were told."""
    distribution = Distribution.objects.get(pk=distribution_id)
    body = f"Distribution {distribution.epoch} is active."
    told = 0
    last: UUID | None = None
    while True:
        credits = distribution.credits.select_related("user").order_by("pk")
        if last is not None:
            credits = credits.filter(pk__gt=last)
        rows = list(credits[:AT_ONCE])
        if not rows:
            return told
        last = rows[-1].pk
        with transaction.atomic():
            known = set(
                Notification.objects.filter(
                    user__in=[row.user_id for row in rows], kind=TOLD, body=body
                ).values_list("user_id", flat=True)
            )
            # As `accounts.notifications.notify` does for one, in one statement.
            made = Notification.objects.bulk_create(
                Notification(
                    user=row.user,
                    kind=TOLD,
                    title=f"{open_text(row.amount)} OPEN can be claimed",
                    body=body,
                    url="/earnings/",
                    at=at,
                )
                for row in rows
                if row.user_id not in known and row.user.kind != User.Kind.UNCLAIMED
            )
        told += len(made)


def claim_for_all(*, at: datetime) -> int:
    """Ask for a relayed claim for each address whose owner wants it done; returns how many."""
    asked = 0
    last: UUID | None = None
    while rows := list(_waiting(after=last)[:AT_ONCE]):
        last = rows[-1].pk
        owners = {
            wallet.address.lower(): wallet.user
            for wallet in Wallet.objects.filter(
                address__in=[row.address for row in rows]
            ).select_related("user")
        }
        for row in rows:
            asked += _claim_for(row, owners.get(row.address.lower()), at)
    return asked


def _waiting(after: UUID | None) -> QuerySet[PayoutAddress]:
    """Addresses of people who chose AUTO, with something to claim and its fee set aside.

    One whose relay has failed waits until there is more, or until its owner asks.
    """
    active = active_distribution()
    if active is None:
        return PayoutAddress.objects.none()
    leaves = DistributionLeaf.objects.filter(
        payee=OuterRef("pk"), distribution__epoch__lte=active.epoch
    ).order_by("-distribution__epoch")
    wanted = Wallet.objects.filter(user__payout_choice__claims=PayoutChoice.Claims.AUTO)
    tried = Claim.objects.filter(payee=OuterRef("pk")).filter(
        Q(state=Claim.State.REQUESTED)
        | Q(state=Claim.State.FAILED, cumulative=OuterRef("cumulative"))
    )
    found = (
        PayoutAddress.objects.filter(address__in=wanted.values("address"))
        .annotate(cumulative=Subquery(leaves.values("cumulative")[:1]))
        .filter(cumulative__gt=F("claimed"))
        .exclude(Exists(tried))
        .order_by("pk")
    )
    if relay_fee():
        paid = RelayReserve.objects.filter(payee=OuterRef("pk"), state=RelayReserve.State.RESERVED)
        found = found.filter(Exists(paid))
    return found.filter(pk__gt=after) if after is not None else found


def _claim_for(payee: PayoutAddress, owner: User | None, at: datetime) -> int:
    if owner is None:
        return 0
    try:
        request_relayed_claim(address=payee.address, acting_user=owner, at=at)
    except LedgerError:
        # Claimed or asked for meanwhile, or no chain: the next round looks again.
        return 0
    return 1
