"""Steps 7 to 9: entries, a distribution, and a claim that arrives in a wallet."""

from typing import Any

import httpx
from django.conf import settings
from django.utils import timezone

from accounts.ethereum import keccak256, to_checksum
from accounts.models import User
from accounts.services.wallets import link_wallet
from config.tour.journey import Journey, StepFailed, StepSkipped
from ledger.models import Claim, Distribution, DistributionCredit, Entry, Intent, Posting
from ledger.services.claims import request_relayed_claim
from ledger.services.distributions import publish_distribution


def books(journey: Journey) -> dict[str, Any]:
    """Every fee is split without a wei missing."""
    journey.need("completions")
    entries = Entry.objects.filter(cause_kind="completion", cause_id__in=journey.completions)
    postings = Posting.objects.filter(entry__in=entries)
    by_kind: dict[str, int] = {}
    for kind, amount in postings.values_list("account__kind", "amount"):
        by_kind[kind] = by_kind.get(kind, 0) + amount
    if sum(by_kind.values()) != 0:
        raise StepFailed("The postings of the completions do not add up to zero.")
    return {
        "entries": entries.count(),
        "postings": postings.count(),
        "wei": {kind: str(amount) for kind, amount in sorted(by_kind.items()) if amount},
    }


def distribute(journey: Journey) -> dict[str, Any]:
    """Publish what contributors earned: the distributor is funded, then the root goes out."""
    _require_chain()
    journey.claimant = _link_a_wallet(journey)
    distribution = journey.wait_for(
        "a distribution that pays the tour's contributor",
        lambda: _published(journey),
        queue="chain",
    )

    def active() -> bool:
        distribution.refresh_from_db()
        if distribution.state == Distribution.State.FAILED:
            raise StepFailed(f"The distribution failed: {distribution.failure_reason}")
        return distribution.state == Distribution.State.ACTIVE

    journey.wait_for("the root on the chain", active, queue="chain")
    assert distribution.root_intent_id is not None
    intent = Intent.objects.get(pk=distribution.root_intent_id)
    return {
        "epoch": distribution.epoch,
        "addresses": distribution.leaf_count,
        "amount_wei": str(distribution.amount),
        "root": distribution.root,
        "transaction": intent.tx_hash,
    }


def claim(journey: Journey) -> dict[str, Any]:
    """Claim through the relayer: the wallet's balance on the chain rises by exactly the claim."""
    _require_chain()
    claimant = journey.need("claimant")
    address = claimant.wallets.get(is_primary=True).address
    before = _chain_balance(address)
    asked = request_relayed_claim(address=address, acting_user=claimant, at=timezone.now())

    def paid() -> bool:
        asked.refresh_from_db()
        if asked.state == Claim.State.FAILED:
            raise StepFailed(f"The claim failed: {asked.failure_reason}")
        return asked.state == Claim.State.PAID

    journey.wait_for("the claim", paid, queue="chain")
    after = _chain_balance(address)
    if after - before != asked.amount:
        raise StepFailed(f"The wallet rose by {after - before} wei, the claim was {asked.amount}.")
    return {
        "claimant": claimant.handle,
        "address": address,
        "claimed_wei": str(asked.amount),
        "balance_before_wei": str(before),
        "balance_after_wei": str(after),
        "transaction": asked.tx_hash,
    }


def _require_chain() -> None:
    if not settings.CHAIN_ENABLED:
        raise StepSkipped("No chain is configured (CHAIN_RPC_URL).")


def _link_a_wallet(journey: Journey) -> User:
    """Give the contributor who earned most a fresh wallet, as they would link their own."""
    from coincurve import PrivateKey

    earned: dict[Any, int] = {}
    shares = Posting.objects.filter(
        entry__kind=Entry.Kind.SETTLEMENT,
        account__kind="EARNINGS",
        completion_id__in=journey.need("completions"),
    ).values_list("account__owner_id", "amount")
    for owner, amount in shares:
        earned[owner] = earned.get(owner, 0) + amount
    if not earned:
        raise StepFailed("No contributor has earned anything, so there is nothing to pay out.")
    best = User.objects.get(pk=max(earned, key=lambda owner: earned[owner]))
    if not best.wallets.exists():
        key = PrivateKey().public_key.format(compressed=False)
        address = to_checksum("0x" + keccak256(key[1:])[-20:].hex())
        link_wallet(user=best, address=address, acting_user=best, at=timezone.now())
    return best


def _published(journey: Journey) -> Distribution | None:
    """The distribution that holds the claimant's earnings: beat's, or one that is made now."""
    publish_distribution(at=timezone.now(), acting_user=journey.people["staff"])
    credit = (
        DistributionCredit.objects.filter(user=journey.claimant)
        .select_related("distribution")
        .order_by("-distribution__epoch")
        .first()
    )
    return credit.distribution if credit else None


def _chain_balance(address: str) -> int:
    reply = httpx.post(
        settings.CHAIN_RPC_URL,
        json={"jsonrpc": "2.0", "id": 1, "method": "eth_getBalance", "params": [address, "latest"]},
        timeout=10,
    )
    return int(reply.json()["result"], 16)
