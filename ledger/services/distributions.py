"""Publishing earnings for claiming: one cumulative Merkle root per epoch for all linked wallets.

At publication the money moves from earnings into escrow, so that no wei can be paid twice. Then,
where there is a chain, one distribution after the other goes the same way: the Gateway funds the
distributor contract, and once that is final the root follows. Without a chain a distribution
stays a DRAFT, and goes on its way when a chain is there. Cost: a row and two hashes a leaf.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Max, Q, Sum

from accounts import audit, blobs, events
from accounts.ids import uuid7
from accounts.models import User, Wallet
from accounts.notifications import notify
from ledger import calldata, published
from ledger.chain import distribution as trees
from ledger.chain.deployment import Deployment
from ledger.errors import (
    InvalidAmount,
    InvalidEntry,
    LedgerError,
    UnknownAccount,
    WaitingForChain,
)
from ledger.models import (
    Account,
    Distribution,
    DistributionCredit,
    DistributionLeaf,
    Entry,
    PayoutAddress,
)
from ledger.models.chain import Intent
from ledger.onchain import current_deployment
from ledger.services import chain
from ledger.services.opening import account_for
from ledger.services.posting import BATCH, Cause, Leg, post_entry
from ledger.words import open_text

State = Distribution.State
LOCK = 0x6F6C_6469  # "oldi": one publication at a time


@dataclass(frozen=True, slots=True)
class Owed:
    """What one user's earnings account holds, and the address that it is published to."""

    account: Account
    user_id: UUID
    address: str

    @property
    def amount(self) -> int:
        return self.account.balance


@transaction.atomic
def publish_distribution(
    *, at: datetime, acting_user: User | None, minimum: int = 1
) -> Distribution | None:
    """Publish all earnings of `minimum` wei and more whose owner has a wallet.

    An account without a wallet keeps its balance. The money goes to the primary wallet of this
    moment, and what was published to an address stays with that address for ever. None where
    there is nothing to publish.
    """
    _one_at_a_time()
    owed = _owed(minimum)
    if not owed:
        return None
    _check_total(owed)
    distribution_id = uuid7()
    total = sum(item.amount for item in owed)
    entry = post_entry(
        kind=Entry.Kind.DISTRIBUTION, key=f"distribution:{distribution_id}", at=at,
        legs=[
            Leg(account_for(Account.Kind.ESCROW), total),
            *(Leg(item.account, -item.amount) for item in owed),
        ],
        cause=Cause("distribution", distribution_id), acting_user=acting_user,
    )
    added = _raise_published(owed)
    leaves = list(PayoutAddress.objects.filter(published__gt=0).order_by("pk"))
    last = Distribution.objects.aggregate(epoch=Max("epoch"))["epoch"] or 0
    distribution = Distribution.objects.create(
        id=distribution_id, epoch=last + 1, amount=total, entry=entry, leaf_count=len(leaves),
        total=sum(payee.published for payee in leaves), created_at=at,
    )
    _write_leaves(distribution, leaves, added, owed)
    audit.record(
        actor=acting_user, verb="ledger.distribution_published", target=distribution, at=at,
        data={"epoch": distribution.epoch, "amount": str(total), "people": len(owed)},
    )
    advance_distributions(at=at)
    distribution.refresh_from_db()
    return distribution


@transaction.atomic
def advance_distributions(*, at: datetime) -> Distribution | None:
    """Start the oldest DRAFT where there is a chain and nothing else is on its way."""
    _one_at_a_time()
    if not settings.CHAIN_ENABLED or Distribution.objects.filter(
        state__in=Distribution.IN_FLIGHT
    ).exists():
        return None
    draft = Distribution.objects.filter(state=State.DRAFT).order_by("epoch").first()
    deployment = current_deployment()
    if draft is None or deployment is None:
        return None
    _bind(draft, deployment)
    _fund(draft, deployment, at)
    return draft


@transaction.atomic
def on_funded(
    *, batch_id: UUID | None, amount: int, chain_id: int, tx_hash: str, log_index: int,
    at: datetime,
) -> Entry:
    """`Gateway.DistributorFunded` is final: book it, and submit the root of that distribution.

    Raises UnknownAccount where the batch is no distribution of ours and InvalidEntry where the
    amount is another one: the contracts did something that the ledger did not ask for.
    """
    named = [batch_id] if batch_id else []
    distribution = (
        Distribution.objects.select_for_update(of=("self",)).filter(pk__in=named).first()
    )
    if distribution is None:
        raise UnknownAccount(f"The distributor was funded by {tx_hash} for no distribution.")
    if distribution.amount != amount:
        raise InvalidEntry(f"Distribution {distribution.epoch} was funded with {amount} wei.")
    entry = post_entry(
        kind=Entry.Kind.FUNDING, key=f"funding:{chain_id}:{tx_hash.lower()}:{log_index}", at=at,
        legs=[
            Leg(account_for(Account.Kind.GATEWAY), amount),
            Leg(account_for(Account.Kind.DISTRIBUTOR), -amount),
        ],
        cause=Cause("distribution", distribution.pk),
    )
    if distribution.state in (State.FUNDING, State.FAILED) and distribution.funded_at is None:
        distribution.funded_at = at
        distribution.save(update_fields=["funded_at"])
        _submit_root(distribution, at)
    return entry


@transaction.atomic
def on_gift(
    *, sender: str, amount: int, chain_id: int, tx_hash: str, log_index: int, at: datetime
) -> Entry:
    """`RewardDistributor.Funded` by somebody else than the Gateway: kept apart, never spent."""
    return post_entry(
        kind=Entry.Kind.DEPOSIT, key=f"gift:{chain_id}:{tx_hash.lower()}:{log_index}", at=at,
        legs=[
            Leg(account_for(Account.Kind.DISTRIBUTOR), -amount),
            Leg(account_for(Account.Kind.UNASSIGNED), amount),
        ],
    )


@transaction.atomic
def on_root_published(*, epoch: int, root: str, chain_id: int, at: datetime) -> None:
    """`RewardDistributor.RootActivated` is final: everybody may claim.

    Raises InvalidEntry where the chain has another root than we submitted for that epoch.
    """
    distribution = Distribution.objects.select_for_update(of=("self",)).filter(epoch=epoch).first()
    if distribution is None or distribution.root.lower() != root.lower():
        raise InvalidEntry(f"Epoch {epoch} has the root {root} on the chain, which is not ours.")
    if distribution.state == State.ACTIVE:
        return
    distribution.state, distribution.active_at = State.ACTIVE, at
    distribution.failure_reason = ""
    distribution.save(update_fields=["state", "active_at", "failure_reason"])
    audit.record(
        actor=None, verb="ledger.distribution_active", target=distribution, at=at,
        data={"epoch": epoch, "root": root, "chain_id": chain_id},
    )
    events.emit("ledger.distribution_active", {"distribution_id": str(distribution.pk)}, at=at)
    for credit in distribution.credits.select_related("user"):
        notify(
            user=credit.user, kind="ledger.claimable", url="/earnings/", at=at,
            title=f"{open_text(credit.amount)} OPEN can be claimed",
        )
    advance_distributions(at=at)


@transaction.atomic
def on_intent_failed(*, intent_id: UUID, reason: str, at: datetime) -> None:
    """An intent of a distribution failed for good; staff look at it and start it again."""
    distribution = (
        Distribution.objects.select_for_update(of=("self",))
        .filter(state__in=[State.FUNDING, State.ROOT_SUBMITTED])
        .filter(Q(funding_intent_id=intent_id) | Q(root_intent_id=intent_id))
        .first()
    )
    if distribution is None:
        return
    distribution.state, distribution.failure_reason = State.FAILED, reason
    distribution.save(update_fields=["state", "failure_reason"])
    audit.record(
        actor=None, verb="ledger.distribution_failed", target=distribution, at=at,
        data={"reason": reason},
    )
    for person in User.objects.filter(is_staff=True, is_active=True):
        notify(
            user=person, kind="ledger.distribution_failed", at=at, body=reason,
            url=f"/explorer/distributions/{distribution.pk}/",
            title=f"Distribution {distribution.epoch} failed; start it again",
        )


@transaction.atomic
def retry_distribution(
    *, distribution: Distribution, acting_user: User, at: datetime
) -> Distribution:
    """Send a FAILED distribution's missing step again. Raises LedgerError in any other state."""
    distribution = Distribution.objects.select_for_update(of=("self",)).get(pk=distribution.pk)
    deployment = current_deployment()
    if distribution.state != State.FAILED:
        raise LedgerError("Only a distribution that failed is started again.")
    if deployment is None:
        raise WaitingForChain("The contracts are not deployed on this chain yet.")
    if distribution.funded_at is None:
        _fund(distribution, deployment, at)
    else:
        _submit_root(distribution, at)
    audit.record(
        actor=acting_user, verb="ledger.distribution_retried", target=distribution, at=at
    )
    return distribution


def _one_at_a_time() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])


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
    if before + sum(item.amount for item in owed) >= trees.CUMULATIVE_LIMIT:
        raise InvalidAmount("All distributions together must stay below 2**128 wei.")


def _raise_published(owed: Sequence[Owed]) -> dict[UUID, int]:
    """Add what is owed to each address's total; return the amounts added, by PayoutAddress id."""
    by_address: dict[str, int] = defaultdict(int)
    for item in owed:
        by_address[item.address] += item.amount
    PayoutAddress.objects.bulk_create(
        [PayoutAddress(address=address) for address in sorted(by_address)],
        ignore_conflicts=True, batch_size=BATCH,
    )
    payees = list(
        PayoutAddress.objects.select_for_update().filter(address__in=by_address).order_by("pk")
    )
    for payee in payees:
        payee.published += by_address[payee.address]
    PayoutAddress.objects.bulk_update(payees, ["published"], batch_size=BATCH)
    return {payee.pk: by_address[payee.address] for payee in payees}


def _write_leaves(
    distribution: Distribution, leaves: Sequence[PayoutAddress], added: dict[UUID, int],
    owed: Sequence[Owed],
) -> None:
    DistributionLeaf.objects.bulk_create(
        [
            DistributionLeaf(
                distribution=distribution, payee=payee, cumulative=payee.published,
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
                distribution=distribution, user_id=item.user_id, payee=payees[item.address],
                amount=item.amount,
            )
            for item in owed
        ],
        batch_size=BATCH,
    )


def _bind(distribution: Distribution, deployment: Deployment) -> None:
    """Build the tree for this chain and contract, and store its file and its nodes."""
    leaves = list(distribution.leaves.select_related("payee"))
    tree = trees.build(
        chain_id=deployment.chain_id, distributor=deployment.address("RewardDistributor"),
        amounts=[(leaf.payee.address, leaf.cumulative) for leaf in leaves],
    )
    places = {
        account: place
        for (account, _), place in zip(tree.leaves, tree.places, strict=True)
    }
    for leaf in leaves:
        leaf.position = places[leaf.payee.address]
    DistributionLeaf.objects.bulk_update(leaves, ["position"], batch_size=BATCH)
    distribution.chain_id = deployment.chain_id
    distribution.distributor = tree.distributor
    distribution.root = tree.root_hex
    distribution.data_sha256 = blobs.put_bytes(
        published.data_file(distribution.epoch, tree), "application/json"
    ).pk
    distribution.nodes_sha256 = blobs.put_bytes(
        b"".join(tree.nodes), "application/octet-stream"
    ).pk
    distribution.save(
        update_fields=["chain_id", "distributor", "root", "data_sha256", "nodes_sha256"]
    )


def _fund(distribution: Distribution, deployment: Deployment, at: datetime) -> None:
    intent = chain.request_intent(
        kind=Intent.Kind.FUND, to=deployment.address("Gateway"), value=0,
        data=calldata.fund_distributor(distribution.pk, distribution.amount),
        cause_kind="distribution", cause_id=distribution.pk, at=at,
        key=_fresh_key(distribution, Intent.Kind.FUND),
    )
    distribution.state, distribution.funding_intent_id = State.FUNDING, intent.pk
    distribution.failure_reason = ""
    distribution.save(update_fields=["state", "funding_intent_id", "failure_reason"])


def _submit_root(distribution: Distribution, at: datetime) -> None:
    intent = chain.request_intent(
        kind=Intent.Kind.PUBLISH, to=distribution.distributor, value=0,
        data=calldata.publish(
            epoch=distribution.epoch, total=distribution.total,
            root=bytes.fromhex(distribution.root[2:]),
            data_sha256=bytes.fromhex(distribution.data_sha256),
        ),
        cause_kind="distribution", cause_id=distribution.pk, at=at,
        key=_fresh_key(distribution, Intent.Kind.PUBLISH),
    )
    distribution.state, distribution.root_intent_id = State.ROOT_SUBMITTED, intent.pk
    distribution.failure_reason = ""
    distribution.save(update_fields=["state", "root_intent_id", "failure_reason"])


def _fresh_key(distribution: Distribution, kind: Intent.Kind) -> str:
    """A key of its own for each time that staff start a failed step again."""
    before = Intent.objects.filter(
        kind=kind, cause_kind="distribution", cause_id=distribution.pk
    ).count()
    return f"{kind.lower()}:{distribution.pk}:{before}"
