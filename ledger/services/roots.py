"""A distribution's way to the chain: first funded by the Gateway, then its root, then in force.

One goes after the other, since the contract takes epoch = last + 1. Without a chain a distribution
stays a DRAFT, and goes on its way when a chain is there. Building a tree costs two hashes a leaf.
"""

from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from accounts import audit, events, outbox
from accounts.models import User
from accounts.notifications import notify
from ledger import calldata, published
from ledger.chain import distribution as trees
from ledger.chain.deployment import Deployment
from ledger.errors import InvalidEntry, LedgerError, UnknownAccount, WaitingForChain
from ledger.models import Account, Distribution, Entry
from ledger.models.chain import Intent
from ledger.onchain import current_deployment
from ledger.services import chain, past_finality
from ledger.services.opening import account_for
from ledger.services.posting import Cause, Leg, post_entry
from ledger.services.taking_turns import build_alone
from ledger.setwise import leaves_under

State = Distribution.State
# The chain's clock may stand behind ours, and an activation that comes too early fails.
TELL_TASK = "ledger.tasks.distribution_is_active"
CLOCKS = timedelta(seconds=30)


@transaction.atomic
def advance_distributions(*, at: datetime) -> Distribution | None:
    """Start the oldest DRAFT where there is a chain and nothing else is on its way.

    A root that waits out the contract's delay is put in force when the delay is over.
    """
    build_alone()
    deployment = current_deployment()
    if deployment is None:
        return None
    under_way = Distribution.objects.filter(state__in=Distribution.IN_FLIGHT).first()
    if under_way is not None:
        return _activate_when_due(under_way, at)
    draft = Distribution.objects.filter(state=State.DRAFT).order_by("epoch").first()
    if draft is None:
        return None
    _bind(draft, deployment)
    _fund(draft, deployment, at)
    return draft


@transaction.atomic
def on_funded(
    *,
    batch_id: UUID | None,
    amount: int,
    chain_id: int,
    tx_hash: str,
    log_index: int,
    at: datetime,
) -> Entry:
    """`Gateway.DistributorFunded` is final: book it, and submit the root of that distribution.

    The Gateway funds a distribution once, whichever of our attempts it was that was mined: booked
    once by its id, and once more after each time that the chain took it back.

    Raises UnknownAccount where the batch is no distribution of ours and InvalidEntry where the
    amount is another one: the contracts did something that the ledger did not ask for.
    """
    named = [batch_id] if batch_id else []
    distribution = Distribution.objects.select_for_update(of=("self",)).filter(pk__in=named).first()
    if distribution is None:
        raise UnknownAccount(f"The distributor was funded by {tx_hash} for no distribution.")
    if distribution.amount != amount:
        raise InvalidEntry(f"Distribution {distribution.epoch} was funded with {amount} wei.")
    cause = Cause("distribution", distribution.pk)
    booked = past_finality.standing(Entry.Kind.FUNDING, cause)
    if booked is not None:
        return booked
    entry = post_entry(
        kind=Entry.Kind.FUNDING,
        key=f"funding:{distribution.pk}:{past_finality.times_undone(cause)}",
        at=at,
        legs=[
            Leg(account_for(Account.Kind.GATEWAY), amount),
            Leg(account_for(Account.Kind.DISTRIBUTOR), -amount),
        ],
        cause=cause,
    )
    distribution.funded_at = at
    distribution.save(update_fields=["funded_at"])
    # Past finality the root may be on its way already, or in force.
    if distribution.state in (State.FUNDING, State.FAILED):
        _submit_root(distribution, at)
    return entry


@transaction.atomic
def on_gift(
    *, sender: str, amount: int, chain_id: int, tx_hash: str, log_index: int, at: datetime
) -> Entry:
    """`RewardDistributor.Funded` by somebody else than the Gateway: kept apart, never spent."""
    key = f"gift:{chain_id}:{tx_hash.lower()}:{log_index}"
    first = Entry.objects.filter(idempotency_key=key).first()
    cause = Cause("entry", first.pk) if first else None
    undone = past_finality.times_undone(cause) if cause else 0
    return post_entry(
        kind=Entry.Kind.DEPOSIT,
        key=f"{key}:{undone}" if undone else key,
        at=at,
        legs=[
            Leg(account_for(Account.Kind.DISTRIBUTOR), -amount),
            Leg(account_for(Account.Kind.UNASSIGNED), amount),
        ],
        cause=cause if undone else None,
    )


@transaction.atomic
def on_root_proposed(*, epoch: int, root: str, activates_at: datetime) -> None:
    """`RewardDistributor.RootProposed`: the root waits, so that the guardian can stop it."""
    Distribution.objects.filter(epoch=epoch, root__iexact=root, state=State.ROOT_SUBMITTED).update(
        activates_at=activates_at
    )


@transaction.atomic
def on_root_revoked(*, epoch: int, root: str, at: datetime) -> None:
    """`RewardDistributor.RootRevoked`: the guardian stopped it; staff look, then start again."""
    distribution = (
        Distribution.objects.select_for_update(of=("self",))
        .filter(epoch=epoch, root__iexact=root)
        .exclude(state=State.ACTIVE)
        .first()
    )
    if distribution is not None:
        distribution.activates_at = None
        distribution.save(update_fields=["activates_at"])
        _fail(distribution, "The guardian revoked the root before it was in force.", at)


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
        actor=None,
        verb="ledger.distribution_active",
        target=distribution,
        at=at,
        data={"epoch": epoch, "root": root, "chain_id": chain_id},
    )
    events.emit("ledger.distribution_active", {"distribution_id": str(distribution.pk)}, at=at)
    # As many as were paid: told by a task, in pieces, while the chain's events go on.
    outbox.enqueue(
        task=TELL_TASK,
        args=[str(distribution.pk)],
        queue="default",
        at=at,
        key=str(distribution.pk),
    )
    advance_distributions(at=at)


@transaction.atomic
def on_intent_failed(*, intent_id: UUID, reason: str, at: datetime) -> None:
    """An intent of a distribution failed for good; staff look at it and start it again."""
    distribution = (
        Distribution.objects.select_for_update(of=("self",))
        .filter(state__in=[State.FUNDING, State.ROOT_SUBMITTED])
        .filter(
            Q(funding_intent_id=intent_id)
            | Q(root_intent_id=intent_id)
            | Q(activation_intent_id=intent_id)
        )
        .first()
    )
    if distribution is not None:
        _fail(distribution, reason, at)


def _fail(distribution: Distribution, reason: str, at: datetime) -> None:
    distribution.state, distribution.failure_reason = State.FAILED, reason
    distribution.save(update_fields=["state", "failure_reason"])
    audit.record(
        actor=None,
        verb="ledger.distribution_failed",
        target=distribution,
        at=at,
        data={"reason": reason},
    )
    for person in User.objects.filter(is_staff=True, is_active=True):
        notify(
            user=person,
            kind="ledger.distribution_failed",
            at=at,
            body=reason,
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
    elif distribution.activates_at is not None:
        _activate(distribution, at)
    else:
        _submit_root(distribution, at)
    audit.record(actor=acting_user, verb="ledger.distribution_retried", target=distribution, at=at)
    return distribution


def _bind(distribution: Distribution, deployment: Deployment) -> None:
    """Build the tree for this chain and contract, and store its file and its nodes."""
    tree = trees.build(
        chain_id=deployment.chain_id,
        distributor=deployment.address("RewardDistributor"),
        amounts=leaves_under(distribution.epoch),
    )
    if (len(tree), tree.total) != (distribution.leaf_count, distribution.total):
        raise InvalidEntry(f"The leaves of epoch {distribution.epoch} do not make its total.")
    distribution.chain_id = deployment.chain_id
    distribution.distributor = tree.distributor
    distribution.root = tree.root_hex
    distribution.data_sha256 = published.store_leaves(distribution.epoch, tree)
    distribution.nodes_sha256 = published.store_nodes(tree)
    distribution.save(
        update_fields=["chain_id", "distributor", "root", "data_sha256", "nodes_sha256"]
    )


def _fund(distribution: Distribution, deployment: Deployment, at: datetime) -> None:
    intent = chain.request_intent(
        kind=Intent.Kind.FUND,
        to=deployment.address("Gateway"),
        value=0,
        data=calldata.fund_distributor(distribution.pk, distribution.amount),
        cause_kind="distribution",
        cause_id=distribution.pk,
        at=at,
        key=_fresh_key(distribution, Intent.Kind.FUND),
    )
    distribution.state, distribution.funding_intent_id = State.FUNDING, intent.pk
    distribution.failure_reason = ""
    distribution.save(update_fields=["state", "funding_intent_id", "failure_reason"])


def _submit_root(distribution: Distribution, at: datetime) -> None:
    intent = chain.request_intent(
        kind=Intent.Kind.PUBLISH,
        to=distribution.distributor,
        value=0,
        data=calldata.publish(
            epoch=distribution.epoch,
            total=distribution.total,
            root=bytes.fromhex(distribution.root[2:]),
            data_sha256=bytes.fromhex(distribution.data_sha256),
        ),
        cause_kind="distribution",
        cause_id=distribution.pk,
        at=at,
        key=_fresh_key(distribution, Intent.Kind.PUBLISH),
    )
    distribution.state, distribution.root_intent_id = State.ROOT_SUBMITTED, intent.pk
    distribution.failure_reason = ""
    distribution.save(update_fields=["state", "root_intent_id", "failure_reason"])


def _activate_when_due(distribution: Distribution, at: datetime) -> Distribution | None:
    due = distribution.activates_at
    waiting = distribution.state == State.ROOT_SUBMITTED
    if not waiting or due is None or distribution.activation_intent_id or at < due + CLOCKS:
        return None
    _activate(distribution, at)
    return distribution


def _activate(distribution: Distribution, at: datetime) -> None:
    intent = chain.request_intent(
        kind=Intent.Kind.PUBLISH,
        to=distribution.distributor,
        value=0,
        data=calldata.activate(),
        cause_kind="distribution",
        cause_id=distribution.pk,
        at=at,
        key=_fresh_key(distribution, Intent.Kind.PUBLISH),
    )
    distribution.state, distribution.activation_intent_id = State.ROOT_SUBMITTED, intent.pk
    distribution.failure_reason = ""
    distribution.save(update_fields=["state", "activation_intent_id", "failure_reason"])


def _fresh_key(distribution: Distribution, kind: Intent.Kind) -> str:
    """A key of its own for each time that staff start a failed step again."""
    before = Intent.objects.filter(
        kind=kind, cause_kind="distribution", cause_id=distribution.pk
    ).count()
    return f"{kind.lower()}:{distribution.pk}:{before}"
