"""Claiming: a proof for the wallet itself, or our relayer in its stead; booked when it is final.

Anyone may claim for anyone: the contract pays the address in the leaf, never the sender.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction

from accounts import audit, events
from accounts.models import User
from accounts.notifications import notify
from ledger import calldata, published
from ledger.chain import distribution as trees
from ledger.errors import (
    ClaimOnItsWay,
    ExpiredProof,
    LimitReached,
    NothingToClaim,
    UnknownAccount,
    WaitingForChain,
    WrongProof,
)
from ledger.models import Account, Claim, Distribution, Entry, PayoutAddress
from ledger.models.chain import Intent, IntentAttempt
from ledger.selectors import active_distribution, leaf_under, payee_by_address
from ledger.services import chain, past_finality, relays
from ledger.services.opening import account_for
from ledger.services.posting import Cause, Leg, check_amount, post_entry
from ledger.services.taking_turns import beside_no_publication
from ledger.words import open_text

logger = logging.getLogger(__name__)
# What may be paid after all, by the wallet itself or in another transaction.
AGAIN = (Claim.State.FAILED, Claim.State.VANISHED)


@dataclass(frozen=True, slots=True)
class ClaimProof:
    """Everything that a claim needs; amounts in wei, `claimable` is what it would pay now."""

    distribution: Distribution
    address: str
    cumulative: int
    claimable: int
    proof: tuple[bytes, ...]

    @property
    def calldata(self) -> bytes:
        return calldata.claim(account=self.address, cumulative=self.cumulative, proof=self.proof)


def claim_proof(address: str) -> ClaimProof:
    """The proof of `address` under the root in force.

    Raises UnknownAccount (the address was never published), WaitingForChain (no root is in force
    yet), NothingToClaim (everything was claimed) and WrongProof (the file of nodes is damaged).
    """
    payee = payee_by_address(address)
    if payee is None:
        raise UnknownAccount("Nothing was ever published for this address.")
    active = active_distribution()
    if active is None:
        raise WaitingForChain(
            "Published, and waiting for the chain."
            if settings.CHAIN_ENABLED
            else "This instance has no chain yet; nothing expires until it has one."
        )
    leaf = leaf_under(payee, active)
    if leaf is None:
        raise WaitingForChain("Published for the next epoch, which is not active yet.")
    if leaf.cumulative <= payee.claimed:
        raise NothingToClaim(
            f"All {open_text(payee.claimed)} OPEN of this address were claimed already."
        )
    proof = published.proof(
        active.nodes_sha256, active.leaf_count, _leaf(active, payee.address, leaf.cumulative)
    )
    if _root(active, payee.address, leaf.cumulative, proof) != active.root:
        # Shown or relayed it would only cost somebody their gas.
        raise WrongProof(
            f"The proof that is kept for {payee.address} does not lead to the root in force. "
            "Nothing is lost; tell the operator that the file of nodes of epoch "
            f"{active.epoch} is damaged."
        )
    return ClaimProof(
        distribution=active,
        address=payee.address,
        cumulative=leaf.cumulative,
        claimable=leaf.cumulative - payee.claimed,
        proof=proof,
    )


def check_proof(*, address: str, cumulative: int, proof: Sequence[bytes]) -> None:
    """See that somebody's own proof leads from this address and amount to the root in force.

    Raises WaitingForChain (no root is in force), ExpiredProof (it led to the root of an earlier
    epoch) and WrongProof (another's, another contract's or chain's, or a changed amount).
    """
    active = active_distribution()
    if active is None:
        raise WaitingForChain("No root is in force yet, so there is nothing to prove against.")
    root = _root(active, address, cumulative, proof)
    if root == active.root:
        return
    earlier = Distribution.objects.filter(
        root=root, chain_id=active.chain_id, distributor=active.distributor
    ).first()
    if earlier is not None:
        raise ExpiredProof(
            f"This proof is of epoch {earlier.epoch}; the root in force is that of epoch "
            f"{active.epoch}. Ask for the proof again: what it pays is in the newer one as well."
        )
    raise WrongProof(
        f"This proof does not lead from {address} and {cumulative} wei to the root in force. It is "
        "of another address, amount, contract or chain; ask for the proof of this address."
    )


@transaction.atomic
def request_relayed_claim(
    *, address: str, acting_user: User, at: datetime, shown_fee: int | None = None
) -> Claim:
    """Have our relayer claim for one of the user's own wallets, for the fee that `relays` states.

    `shown_fee` is what the person saw it to cost, where they see it only now; a fee that was set
    aside before was agreed to then.

    Raises UnknownAccount (no wallet of this user, or never published), ClaimOnItsWay,
    NothingToClaim, WaitingForChain, LimitReached (it would pay less than its fee, or the fee is
    higher than shown) and InsufficientFunds (no fee was set aside, and there is nothing to take it
    from).
    """
    beside_no_publication()
    if not acting_user.wallets.filter(address__iexact=address).exists():
        raise UnknownAccount("Link this wallet to your account first; then claim for it.")
    payee = PayoutAddress.objects.select_for_update().filter(address__iexact=address).first()
    if payee is None:
        raise UnknownAccount("Nothing was ever published for this address.")
    if payee.claims.filter(state=Claim.State.REQUESTED).exists():
        raise ClaimOnItsWay("A claim for this address is on its way; wait until it is final.")
    ready = claim_proof(payee.address)
    if relays.reserved_for(payee) is None and shown_fee is not None:
        relays.check_shown(shown_fee)
    if relays.reserved_for(payee) is None and ready.claimable < relays.relay_fee():
        raise LimitReached(
            f"Sending this claim for you costs {open_text(relays.relay_fee())} OPEN, more than it "
            "pays. Claim with your own wallet, or wait until more has gathered; nothing expires."
        )
    relays.fee_for_request(payee=payee, user=acting_user, at=at)
    claim = Claim(
        state=Claim.State.REQUESTED,
        payee=payee,
        requested_by=acting_user,
        distribution=ready.distribution,
        amount=ready.claimable,
        cumulative=ready.cumulative,
        created_at=at,
    )
    intent = chain.request_intent(
        kind=Intent.Kind.CLAIM,
        to=ready.distribution.distributor,
        value=0,
        data=ready.calldata,
        cause_kind="claim",
        cause_id=claim.pk,
        key=f"claim:{claim.pk}",
        at=at,
    )
    claim.intent_id = intent.pk
    claim.save(force_insert=True)
    audit.record(
        actor=acting_user,
        verb="ledger.claim_requested",
        target=claim,
        at=at,
        data={"address": payee.address, "amount": str(claim.amount)},
    )
    return claim


@transaction.atomic
def record_claim(
    *,
    address: str,
    amount: int,
    cumulative: int,
    chain_id: int,
    tx_hash: str,
    log_index: int,
    at: datetime,
) -> Claim:
    """`RewardDistributor.Claimed` is final: the money leaves escrow, once per log.

    What is booked is what the contract's cumulative amount is above ours, so a claim that comes
    again in another transaction, past a final block, adds nothing.

    Raises UnknownAccount where we never published anything for the address, and InvalidAmount.
    """
    check_amount(amount)
    beside_no_publication()
    payee = PayoutAddress.objects.select_for_update().filter(address__iexact=address).first()
    if payee is None:
        raise UnknownAccount(f"{address} claimed in {tx_hash}, but was never published.")
    known = Claim.objects.filter(tx_hash=tx_hash.lower(), log_index=log_index).first()
    if known is not None and known.state == Claim.State.PAID:
        return known
    if cumulative <= payee.claimed:
        logger.warning("%s claimed %s wei in %s, as is booked", address, cumulative, tx_hash)
        return payee.claims.filter(state=Claim.State.PAID, cumulative__gte=cumulative).latest("id")
    claim = known or _answered(payee, cumulative, tx_hash) or Claim(payee=payee)
    amount = cumulative - payee.claimed
    cause = Cause("claim", claim.pk)
    undone = past_finality.times_undone(cause)
    place = f"claim:{chain_id}:{tx_hash.lower()}:{log_index}"
    entry = post_entry(
        kind=Entry.Kind.CLAIM,
        key=f"{place}:{undone}" if undone else place,
        at=at,
        legs=[
            Leg(account_for(Account.Kind.ESCROW), -amount),
            Leg(account_for(Account.Kind.DISTRIBUTOR), amount),
        ],
        cause=cause,
    )
    payee.claimed = cumulative
    payee.save(update_fields=["claimed"])
    claim.state, claim.entry, claim.paid_at = Claim.State.PAID, entry, at
    claim.amount, claim.cumulative = amount, cumulative
    claim.tx_hash, claim.log_index = tx_hash.lower(), log_index
    claim.distribution = claim.distribution or active_distribution()
    claim.failure_reason = ""
    claim.save()
    if not undone:
        relays.settle_fee(claim=claim, relayed=is_ours(claim, tx_hash), at=at)
    _announce(claim, at)
    return claim


@transaction.atomic
def on_intent_failed(*, intent_id: UUID, reason: str, at: datetime) -> None:
    """The relayed claim failed for good. Where the wallet claimed first, it is paid already.

    A fee that was set aside before the epoch stays for the next try, one that was taken for this
    request goes back.
    """
    beside_no_publication()
    claim = (
        Claim.objects.select_for_update(of=("self",))
        .filter(intent_id=intent_id, state=Claim.State.REQUESTED)
        .first()
    )
    if claim is None:
        return
    claim.state, claim.failure_reason = Claim.State.FAILED, reason
    claim.save(update_fields=["state", "failure_reason"])
    relays.release_fee(claim=claim, at=at)
    if claim.requested_by is not None:
        notify(
            user=claim.requested_by,
            kind="ledger.claim_failed",
            at=at,
            url="/earnings/",
            title="Your claim was not sent; nothing is lost, claim again",
            body=reason,
        )


def is_ours(claim: Claim, tx_hash: str) -> bool:
    """Whether the transaction that paid is one that we signed for this claim."""
    if claim.intent_id is None:
        return False
    tries = IntentAttempt.objects.filter(intent_id=claim.intent_id, tx_hash__iexact=tx_hash)
    return tries.exists()


def _root(distribution: Distribution, address: str, cumulative: int, proof: Sequence[bytes]) -> str:
    leaf = _leaf(distribution, address, cumulative)
    return "0x" + trees.root_of(leaf=leaf, proof=proof).hex()


def _leaf(distribution: Distribution, address: str, cumulative: int) -> bytes:
    return trees.leaf(
        chain_id=distribution.chain_id or 0,
        distributor=distribution.distributor,
        account=address,
        cumulative=cumulative,
    )


def _answered(payee: PayoutAddress, cumulative: int, tx_hash: str) -> Claim | None:
    """The request that this payment answers: the one whose transaction it is, else one that is on
    its way, else one whose relay failed because the wallet had claimed the same just before."""
    ours = IntentAttempt.objects.filter(tx_hash__iexact=tx_hash).values_list("intent_id", flat=True)
    unpaid = payee.claims.exclude(state=Claim.State.PAID)
    for found in (
        unpaid.filter(intent_id__in=list(ours)),
        unpaid.filter(state=Claim.State.REQUESTED, cumulative__lte=cumulative),
        unpaid.filter(state__in=AGAIN, cumulative=cumulative),
    ):
        if (claim := found.first()) is not None:
            return claim
    return None


def _announce(claim: Claim, at: datetime) -> None:
    audit.record(
        actor=None,
        verb="ledger.claimed",
        target=claim,
        at=at,
        data={"address": claim.payee.address, "amount": str(claim.amount), "tx": claim.tx_hash},
    )
    events.emit(
        "ledger.claimed",
        {"claim_id": str(claim.pk), "address": claim.payee.address, "amount": str(claim.amount)},
        at=at,
    )
    for owner in User.objects.filter(wallets__address__iexact=claim.payee.address):
        notify(
            user=owner,
            kind="ledger.claimed",
            url="/earnings/",
            at=at,
            title=f"{open_text(claim.amount)} OPEN were paid to {claim.payee.address[:10]}…",
        )
