"""What workers do for the ledger: ids in, one service call."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from ledger.services import (
    autoclaims,
    budgets,
    distributions,
    holds,
    payouts,
    pools,
    poolslashes,
    receivables,
    roots,
    topups,
)

logger = logging.getLogger(__name__)


@shared_task
def release_expired_holds() -> None:
    holds.release_expired_holds(at=timezone.now())


@shared_task
def refresh_budgets() -> None:
    budgets.refresh_budgets(at=timezone.now())


@shared_task
def run_top_ups() -> None:
    topups.run_top_ups(at=timezone.now())


@shared_task
def publish_distribution() -> None:
    distributions.pay_out(at=timezone.now(), acting_user=None)


@shared_task
def advance_distributions() -> None:
    distributions.resume_publication(at=timezone.now())
    roots.advance_distributions(at=timezone.now())
    autoclaims.claim_for_all(at=timezone.now())


@shared_task
def distribution_is_active(distribution_id: str) -> None:
    autoclaims.tell_claimable(distribution_id=UUID(distribution_id), at=timezone.now())
    autoclaims.claim_for_all(at=timezone.now())


@shared_task
def settle_receivables() -> None:
    receivables.settle_receivables(at=timezone.now())


@shared_task
def advance_withdrawals() -> None:
    payouts.advance_withdrawals(at=timezone.now())


@shared_task
def send_intents() -> None:
    """Sign, send and follow what was asked for on the chain. Imports web3: queue `chain` only."""
    from ledger import workers
    from ledger.services.sending import send_for, sender_settings

    if not settings.CHAIN_ENABLED:
        return
    with _next_time("sending"):
        send_for(
            client=workers.node(),
            signer=workers.signer(),
            chain_id=settings.CHAIN_ID,
            settings=sender_settings(),
            # Beat starts the next one a second after this.
            seconds=0.9,
        )


@shared_task
def index_chain() -> None:
    """Mirror new blocks and give their events to the ledger. Imports web3: queue `chain` only."""
    from ledger import workers
    from ledger.chain.deployment import read_deployment
    from ledger.services.indexing import index_chain as index

    deployment = read_deployment(settings.CHAIN_DEPLOYMENT) if settings.CHAIN_ENABLED else None
    if deployment is None:
        return
    with _next_time("mirroring"):
        index(
            client=workers.node(),
            deployment=deployment,
            confirmations=settings.CHAIN_CONFIRMATIONS,
            at=timezone.now(),
        )


@contextmanager
def _next_time(what: str) -> Iterator[None]:
    """A node that does not answer is no failure of the task: beat starts the next one."""
    from ledger.chain.client import ChainError
    from ledger.chain.signers import SigningError
    from ledger.services.sending import LeaseLostError

    try:
        yield
    except (ChainError, SigningError, LeaseLostError) as error:
        logger.warning("%s: %s; the next step takes it up", what, error)


@shared_task
def execute_due_pool_slashes() -> None:
    poolslashes.execute_due_pool_slashes(at=timezone.now())


@shared_task
def mirror_pools(payload: dict[str, Any]) -> None:
    if payload["contract"] == pools.CONTRACT:
        pools.mirror()


@shared_task
def rebuild_pools(payload: dict[str, Any]) -> None:
    pools.rebuild()
