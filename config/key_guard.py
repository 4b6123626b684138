"""The worker of the queue `chain` does not start with a key that it must not use."""

from typing import Any

from celery.signals import celeryd_after_setup
from django.conf import settings

from ledger.keys import SAFE_KEY, look_at_key


@celeryd_after_setup.connect
def refuse_an_unsafe_key(sender: Any, instance: Any, **_: Any) -> None:
    """Raises SystemExit with what to do."""
    if settings.CHAIN_ENABLED and "chain" in instance.app.amqp.queues.consume_from:
        problem = _problem()
        if problem:
            raise SystemExit(f"Not started: {problem} {SAFE_KEY}")


def _problem() -> str:
    found = look_at_key()
    if found.problem or not settings.CHAIN_KEYSTORE:
        return found.problem
    from ledger import workers
    from ledger.chain.signers import UnsafeKeyError

    # A keystore file need not name its address; opened here, it is open for all that follows.
    try:
        workers.signer()
    except (UnsafeKeyError, ValueError) as error:
        return str(error)
    return ""
