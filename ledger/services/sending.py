"""A wallet's sender, step by step: its lease, its alarms, and what is mined until it is final.

For the worker of the queue `chain` alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings as django_settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import audit
from ledger.chain.client import ChainClient, ChainError
from ledger.chain.sender import Sender, SenderSettings
from ledger.chain.signers import Signer, SigningError
from ledger.models.chain import ChainWallet, Intent
from ledger.services.alarms import alarm_staff
from ledger.services.confirming import confirm
from ledger.services.outgoing import IntentStore, LeaseLostError

__all__ = ["LeaseLostError", "send_for", "send_step", "sender_settings"]

Now = Callable[[], datetime]
LEASE = timedelta(seconds=30)
PAUSE_SECONDS = 0.05
# A node that is away for a moment is no news.
GRACE = {"node": timedelta(minutes=1), "signer": timedelta(minutes=1)}
NO_GRACE = timedelta(0)


def sender_settings() -> SenderSettings:
    """From the settings CHAIN_…; the local chain mines each second, elsewhere a bump costs."""
    local = django_settings.CHAIN_IS_LOCAL
    return SenderSettings(
        resend_after=3.0 if local else 5.0,
        bump_after=15.0 if local else 30.0,
        stuck_after=django_settings.CHAIN_STUCK_SECONDS,
        fee_cap=django_settings.CHAIN_FEE_CAP_WEI,
        transaction_cap=django_settings.CHAIN_CAP_TRANSACTION_WEI or None,
        day_cap=django_settings.CHAIN_CAP_DAY_WEI or None,
        low_funds=django_settings.CHAIN_LOW_FUNDS_WEI,
    )


def send_step(
    *,
    client: ChainClient,
    signer: Signer,
    chain_id: int,
    settings: SenderSettings,
    now: Now = timezone.now,
    lease: timedelta = LEASE,
) -> int:
    """One step of the wallet's sender; 0 where another process holds the wallet, or all is halted.

    Raises ChainError, SigningError, LeaseLostError: the next step takes it up.
    """
    wallet = _wallet(chain_id, signer.address)
    with _leased(wallet.pk, now, lease) as token:
        return _step(client, signer, wallet, settings, token, now) if token else 0


def send_for(
    *,
    client: ChainClient,
    signer: Signer,
    chain_id: int,
    settings: SenderSettings,
    seconds: float,
    now: Now = timezone.now,
    lease: timedelta = LEASE,
) -> int:
    """Steps until nothing is left to do, for `seconds` at most; returns how many intents moved.

    Raises as `send_step`.
    """
    wallet = _wallet(chain_id, signer.address)
    until = time.monotonic() + seconds
    moved = 0
    with _leased(wallet.pk, now, lease) as token:
        while token:
            now_moved = _step(client, signer, wallet, settings, token, now)
            moved += now_moved
            left = until - time.monotonic()
            if left <= 0 or not (now_moved or _on_its_way(wallet, chain_id)):
                break
            if not now_moved:
                time.sleep(min(left, PAUSE_SECONDS))
            if not _renew(wallet.pk, token, now, lease):
                break
    return moved


def _step(
    client: ChainClient,
    signer: Signer,
    wallet: ChainWallet,
    settings: SenderSettings,
    token: str,
    now: Now,
) -> int:
    store = IntentStore(wallet.pk, token, wallet.chain_id, now)
    sender = Sender(client, signer, store, wallet.chain_id, settings, lambda: now().timestamp())
    try:
        moved = sender.step()
        moved += confirm(client, wallet, at=now())
        if moved or wallet.checked_at is None:
            _keep_balance(client, wallet, now())
    except (ChainError, SigningError) as error:
        kind = "signer" if isinstance(error, SigningError) else "node"
        sender.alarms[kind] = f"{'The key' if kind == 'signer' else 'The node'} fails: {error}"
        sender.watch()
        report_alarms(wallet_id=wallet.pk, alarms=sender.alarms, whole=False, at=now())
        raise
    sender.watch()
    report_alarms(wallet_id=wallet.pk, alarms=sender.alarms, whole=True, at=now())
    return moved


def report_alarms(*, wallet_id: UUID, alarms: dict[str, str], whole: bool, at: datetime) -> None:
    """Keep what is wrong with a wallet and tell staff of what is new.

    `whole`: a step came to its end, so what it did not find any more is over.
    """
    wallet = ChainWallet.objects.get(pk=wallet_id)
    if not alarms and not wallet.alarms:
        return
    with transaction.atomic():
        wallet = ChainWallet.objects.select_for_update().get(pk=wallet_id)
        known: dict[str, Any] = wallet.alarms
        kept = {} if whole else dict(known)
        for kind, text in alarms.items():
            since = known.get(kind, {}).get("since", at.isoformat())
            told = known.get(kind, {}).get("told", False)
            due = at - datetime.fromisoformat(since) >= GRACE.get(kind, NO_GRACE)
            kept[kind] = {"text": text, "since": since, "told": told or due}
            if due and not told:
                _tell(wallet, kind, text, at)
        for kind in set(known) - set(kept):
            if known[kind]["told"]:
                data = {"kind": kind, "text": known[kind]["text"]}
                audit.record(
                    actor=None, verb="ledger.sender_alarm_over", target=wallet, at=at, data=data
                )
        wallet.alarms = kept
        wallet.problem = "\n".join(one["text"] for one in kept.values() if one["told"])
        wallet.checked_at = at
        wallet.save(update_fields=["alarms", "problem", "checked_at"])


def _tell(wallet: ChainWallet, kind: str, text: str, at: datetime) -> None:
    data = {"kind": kind, "text": text}
    audit.record(actor=None, verb="ledger.sender_alarm", target=wallet, at=at, data=data)
    alarm_staff(title=f"The sender of {wallet.address[:10]}… needs you: {kind}", body=text, at=at)


def _wallet(chain_id: int, address: str) -> ChainWallet:
    wallet, _ = ChainWallet.objects.get_or_create(chain_id=chain_id, address=address)
    return wallet


@contextmanager
def _leased(wallet_id: UUID, now: Now, lease: timedelta) -> Iterator[str]:
    """A token while the wallet is ours; "" where another process holds it."""
    token = str(uuid4())
    free = Q(lease_expires_at__isnull=True) | Q(lease_expires_at__lt=now())
    rows = ChainWallet.objects.filter(free, pk=wallet_id)
    if not rows.update(lease_owner=token, lease_expires_at=now() + lease):
        yield ""
        return
    try:
        yield token
    finally:
        ChainWallet.objects.filter(pk=wallet_id, lease_owner=token).update(
            lease_owner="", lease_expires_at=None
        )


def _renew(wallet_id: UUID, token: str, now: Now, lease: timedelta) -> bool:
    mine = ChainWallet.objects.filter(pk=wallet_id, lease_owner=token)
    return bool(mine.update(lease_expires_at=now() + lease))


def _on_its_way(wallet: ChainWallet, chain_id: int) -> bool:
    new = Intent.objects.filter(state=Intent.State.NEW, chain_id=chain_id)
    unmined = Intent.objects.filter(wallet=wallet, state__in=Intent.IN_FLIGHT)
    return new.exists() or unmined.exists()


def _keep_balance(client: ChainClient, wallet: ChainWallet, at: datetime) -> None:
    balance = client.balance(wallet.address)
    wallet.checked_at = at
    ChainWallet.objects.filter(pk=wallet.pk).update(balance=balance, checked_at=at)
