"""What shall happen on the chain: intents, written with their cause and carried out by a worker.

The web calls this and touches no node. Whoever has a stake in an intent or an event registers a
handler, which runs in the transaction that writes the change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Sum

from accounts import audit, events, outbox
from accounts.models import User
from ledger import calldata
from ledger.chain import artifacts
from ledger.errors import LimitReached, WaitingForChain
from ledger.models import Account
from ledger.models.chain import ChainLog, Intent
from ledger.onchain import current_deployment, require_deployment
from ledger.outflows import outflow
from ledger.services.opening import account_for
from ledger.services.posting import check_amount
from ledger.words import open_text

SEND_TASK = "ledger.tasks.send_intents"
QUEUE = "chain"
FAUCET_PER_DAY = 1_000 * 10**18

IntentHandler = Callable[[Intent, datetime], None]
LogHandler = Callable[[ChainLog, datetime], None]


@dataclass(frozen=True, slots=True)
class LogRule:
    """What an event means, from when on, and how it is taken back."""

    apply: LogHandler
    final: bool
    undo: LogHandler | None


_intent_handlers: dict[str, list[IntentHandler]] = defaultdict(list)
_log_rules: dict[tuple[str, str], LogRule] = {}


def on_intent(kind: str, handler: IntentHandler) -> None:
    """Have `handler(intent, at)` called whenever an intent of `kind` changes its state."""
    if handler not in _intent_handlers[kind]:
        _intent_handlers[kind].append(handler)


def on_log(
    contract: str,
    event: str,
    handler: LogHandler,
    *,
    final: bool = False,
    undo: LogHandler | None = None,
) -> None:
    """Have `handler(log, at)` called once for each such event, when its block is safe (or final).

    What comes in counts once it is safe, what goes out once it is final: nothing that was given
    out by the ledger may still be taken back by the chain.

    The handler must be idempotent by (transaction hash, place in the transaction): a
    reorganisation that reaches so far takes the row away, and the event may come again from another
    block, where its index is another one. `undo(log, at)` is called where that happens, before the
    row goes, in the transaction that takes the block back.
    """
    _log_rules[contract, event] = LogRule(handler, final, undo)


def log_rule(contract: str, event: str) -> LogRule | None:
    return _log_rules.get((contract, event))


def rules_for_safe() -> list[tuple[str, str]]:
    """The events that count once their block is safe, as (contract, event)."""
    return [name for name, rule in _log_rules.items() if not rule.final]


@transaction.atomic
def request_intent(
    *,
    kind: str,
    to: str,
    data: bytes,
    key: str,
    at: datetime,
    value: int = 0,
    cause_kind: str = "",
    cause_id: UUID | None = None,
    gas_limit: int | None = None,
) -> Intent:
    """Write down that `data` shall be called at `to`; asked again for `key`, the first is returned.

    Raises WaitingForChain where this instance has no chain.
    """
    deployment = require_deployment()
    intent, created = Intent.objects.get_or_create(
        key=key,
        defaults={
            "kind": kind,
            "chain_id": deployment.chain_id,
            "to": to,
            "data": data,
            "value": value,
            "outflow": outflow(
                gateway=deployment.address("Gateway"), to=to, data=data, value=value
            ),
            "cause_kind": cause_kind,
            "cause_id": cause_id,
            "gas_limit": gas_limit,
        },
    )
    if created:
        # Beat looks each second as well; this only saves the wait.
        outbox.enqueue(task=SEND_TASK, args=[], queue=QUEUE, at=at, key=SEND_TASK)
    return intent


def request_anchor(
    *, sequence: int, size: int, root: bytes, at: datetime, cause_id: UUID | None = None
) -> Intent | None:
    """Have checkpoint `sequence` of the log anchored; None where there is no chain to do it on."""
    deployment = current_deployment()
    if deployment is None:
        return None
    return request_intent(
        kind=Intent.Kind.ANCHOR,
        to=deployment.address("LogAnchor"),
        data=artifacts.load("LogAnchor").encode_call("anchor", sequence, size, root),
        key=f"anchor:{deployment.address('LogAnchor')}:{sequence}",
        cause_kind="checkpoint",
        cause_id=cause_id,
        at=at,
    )


@transaction.atomic
def request_faucet(
    *, user: User, amount: int, acting_user: User | None, key: str, at: datetime
) -> Intent:
    """Deposit `amount` wei of the local chain's OPEN for `user` through the Gateway.

    Raises WaitingForChain off the local chain, LimitReached over 1,000 OPEN in 24 hours,
    InvalidAmount.
    """
    check_amount(amount)
    deployment = require_deployment()
    if not settings.CHAIN_IS_LOCAL:
        raise WaitingForChain("Only the local chain has a faucet; deposit OPEN with your wallet.")
    account = account_for(Account.Kind.USER, user.pk)
    # The row lock makes two requests at once wait for each other, so that the limit holds.
    Account.objects.select_for_update(no_key=True).get(pk=account.pk)
    full_key = f"faucet:{user.pk}:{key}"
    _check_faucet_limit(account, amount, full_key, at)
    intent = request_intent(
        kind=Intent.Kind.FAUCET,
        to=deployment.address("Gateway"),
        data=calldata.deposit(account.pk),
        value=amount,
        key=full_key,
        cause_kind="account",
        cause_id=account.pk,
        at=at,
    )
    audit.record(
        actor=acting_user,
        verb="ledger.faucet_requested",
        target=intent,
        at=at,
        data={"amount": str(amount), "user": str(user.pk)},
    )
    return intent


def announce(intent: Intent, *, at: datetime) -> None:
    """Tell everybody with a stake that the intent's state changed. Call it in that transaction."""
    for handler in _intent_handlers[intent.kind]:
        handler(intent, at)
    events.emit(
        "ledger.intent_changed",
        {
            "intent_id": str(intent.pk),
            "kind": intent.kind,
            "state": intent.state,
            "cause_kind": intent.cause_kind,
            "cause_id": str(intent.cause_id) if intent.cause_id else None,
            "tx_hash": intent.tx_hash,
            "block_number": intent.block_number,
            "reason": intent.failure_reason,
        },
        at=at,
    )


def _check_faucet_limit(account: Account, amount: int, key: str, at: datetime) -> None:
    recent = Intent.objects.filter(
        kind=Intent.Kind.FAUCET, cause_id=account.pk, created_at__gt=at - timedelta(days=1)
    ).exclude(state=Intent.State.FAILED)
    given = recent.exclude(key=key).aggregate(total=Sum("value"))["total"] or 0
    if given + amount > FAUCET_PER_DAY:
        raise LimitReached(
            f"The faucet gives at most {open_text(FAUCET_PER_DAY)} OPEN in 24 hours; "
            f"{open_text(max(0, FAUCET_PER_DAY - given))} are left."
        )
