"""Keeping an adapter in memory for a price: quote, hold, capture once it is there, expiry."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Sum

from accounts import audit, outbox
from accounts.ids import uuid7
from accounts.models import User
from accounts.notifications import notify
from governance.selectors import current_parameters
from ledger.errors import HoldClosed, HoldExpired, InsufficientFunds, LedgerError
from ledger.fees import Terms
from ledger.models import Hold
from ledger.services.holds import Refs, capture_hold, open_hold, release_hold, terms_of
from ledger.words import open_text
from serving.errors import NoBalance, NotPinnable, NotSpendable
from serving.external.routing import QUEUE, queue_of
from serving.limits import PIN_DAYS, PIN_PRICE, PINNED_BYTES
from serving.models import Deployment, DeploymentState, Pin, PinState
from serving.services.deployments import check_base_is_served

CAUSE = "pin"
MIB = 1 << 20
# How long a worker has to bring it into memory; then the money goes back.
PATIENCE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class PinQuote:
    """`fee` wei for `days` of `mib` mebibytes, each begun one whole."""

    days: int
    mib: int
    fee: int


def quote_pin(*, deployment: Deployment, days: int) -> PinQuote:
    """What it costs, without asking for it. Raises NotPinnable."""
    if deployment.model is None:
        raise NotPinnable("A base is always in memory; only an adapter is pinned.")
    if not 1 <= days <= PIN_DAYS:
        raise NotPinnable(f"An adapter is pinned for 1 to {PIN_DAYS} days.")
    mib = max(1, -(-deployment.model.adapter_bytes // MIB))
    return PinQuote(days, mib, mib * days * PIN_PRICE)


def request_pin(
    *, deployment: Deployment, days: int, acting_user: User, at: datetime, key: str | None = None
) -> Pin:
    """Hold the price and have the base's workers keep the adapter in memory.

    It is charged when the first worker has it there, and lasts from then on. The fee is divided as
    that of a base alone: it pays for memory. Raises NotPinnable (no adapter, not live, pinned
    already, no room left), NoWorker, NoBalance and NotSpendable; nothing is written then. Asked
    again under `key`, the first one is returned, whatever became of it.
    """
    full_key = f"{acting_user.pk}:{key}" if key else None
    known: Pin | None = Pin.objects.filter(key=full_key).first() if full_key else None
    if known is not None:
        return known
    quote = quote_pin(deployment=deployment, days=days)
    usable = Deployment.objects.usable_by(acting_user).filter(pk=deployment.pk).exists()
    if not usable or deployment.state != DeploymentState.LIVE:
        raise NotPinnable("Only a model that is live, and that you may ask, is pinned.")
    check_base_is_served(deployment.base_model, at=at)
    size = quote.mib * MIB
    pin = Pin(
        id=uuid7(), created_at=at, deployment=deployment, payer=acting_user,
        days=days, bytes=size, fee=quote.fee, key=full_key,
    )  # fmt: skip
    try:
        with transaction.atomic():
            _check_room(deployment, size)
            pin.hold_id = _hold(pin, acting_user, at).pk
            pin.save(force_insert=True)
            audit.record(
                actor=acting_user,
                verb="deployment.pin_requested",
                target=deployment,
                at=at,
                data={"days": days, "fee": str(pin.fee), "pin": str(pin.pk)},
            )
            _enqueue(deployment, at)
    except IntegrityError as error:
        raise NotPinnable(f"{deployment.name} is pinned already.") from error
    return pin


def note_pinned(*, pin_id: UUID, at: datetime) -> Pin | None:
    """A worker has it in memory: charge, and count the days from now. None where it had ended.

    Every worker of the base tells so; the first one counts. After the hold ran out nothing can be
    charged any more: it fails.
    """
    try:
        return _activate(pin_id, at)
    except (HoldExpired, HoldClosed):
        reason = "No worker brought it into memory in time."
        fail_pin(pin_id=pin_id, reason=reason, at=at)
        return None


def _activate(pin_id: UUID, at: datetime) -> Pin | None:
    with transaction.atomic():
        pin = Pin.objects.select_for_update().filter(pk=pin_id, state=PinState.REQUESTED).first()
        if pin is None:
            return None
        hold = Hold.objects.get(pk=pin.hold_id)
        entry = capture_hold(
            hold=hold,
            amount=pin.fee,
            terms=terms_of(hold) or Terms.of_split(current_parameters().split),
            refs=Refs(),
            acting_user=None,
            at=at,
        )
        pin.state, pin.entry_id, pin.active_at = PinState.ACTIVE, entry.pk, at
        pin.until = at + timedelta(days=pin.days)
        pin.save(update_fields=["state", "entry_id", "active_at", "until"])
        audit.record(
            actor=None, verb="deployment.pinned", target=pin.deployment, at=at,
            data={"pin": str(pin.pk), "until": pin.until.isoformat()},
        )  # fmt: skip
    found: Pin = pin
    return found


def fail_pin(*, pin_id: UUID, reason: str, at: datetime) -> None:
    """It never came into memory: the money goes back."""
    with transaction.atomic():
        pin = Pin.objects.select_for_update().filter(pk=pin_id, state=PinState.REQUESTED).first()
        if pin is None:
            return
        hold = Hold.objects.get(pk=pin.hold_id)
        release_hold(hold=hold, reason=reason, acting_user=None, at=at)
        pin.state, pin.failure_reason = PinState.FAILED, reason[:300]
        pin.save(update_fields=["state", "failure_reason"])
        _tell(
            pin, f"{pin.deployment.name} could not be pinned", f"{reason} You were not charged.", at
        )


def end_pin(*, pin: Pin, acting_user: User, at: datetime) -> Pin:
    """Let go of it before its time, as who pays for it or as staff.

    Before it is charged the money goes back; the days that are paid for are not paid back, since
    the memory was kept from others. Raises NotPinnable for anybody else, and where it has ended.
    """
    if not (acting_user.is_staff or pin.payer_id == acting_user.pk):
        raise NotPinnable("Only who pays for a pin, and staff, can end it.")
    with transaction.atomic():
        # `of` spares the deployment, whose row a worker may hold.
        found: Pin = Pin.objects.select_for_update(of=("self",)).get(pk=pin.pk)
        if found.state == PinState.REQUESTED:
            reason = "It was taken back before it began."
            release_hold(
                hold=Hold.objects.get(pk=found.hold_id),
                reason=reason,
                acting_user=acting_user,
                at=at,
            )
            found.state, found.failure_reason = PinState.FAILED, reason
        elif found.state == PinState.ACTIVE:
            found.state, found.until = PinState.ENDED, at
        else:
            raise NotPinnable("This pin has ended already.")
        found.save(update_fields=["state", "failure_reason", "until"])
        audit.record(
            actor=acting_user, verb="deployment.pin_ended", target=found.deployment, at=at,
            data={"pin": str(found.pk)},
        )  # fmt: skip
        # Workers look at what is pinned, and let go of what is not.
        _enqueue(found.deployment, at)
    return found


def end_pins(*, at: datetime) -> int:
    """End what ran out and give back what no worker did; returns how many."""
    late = Pin.objects.filter(state=PinState.REQUESTED, created_at__lte=at - PATIENCE)
    ids = list(late.values_list("pk", flat=True))
    for pk in ids:
        fail_pin(pin_id=pk, reason="No worker brought it into memory in time.", at=at)
    over = list(
        Pin.objects.filter(state=PinState.ACTIVE, until__lte=at).select_related(
            "deployment", "payer"
        )
    )
    for pin in over:
        with transaction.atomic():
            if Pin.objects.filter(pk=pin.pk, state=PinState.ACTIVE).update(state=PinState.ENDED):
                title = f"{pin.deployment.name} is pinned no longer"
                _tell(
                    pin,
                    title,
                    "It stays in memory while it is asked. Pin it again if you like.",
                    at,
                )
    return len(ids) + len(over)


def _enqueue(deployment: Deployment, at: datetime) -> None:
    queue = queue_of(deployment.base_model, at=at)
    task = "pin_elsewhere" if queue == QUEUE else "pin"
    base = str(deployment.base_model_id)
    outbox.enqueue(task=f"serving.tasks.{task}", args=[base], queue=queue, at=at)


def _check_room(deployment: Deployment, size: int) -> None:
    """One after another for each base, so that two do not take the same room."""
    base = deployment.base_model
    type(base).objects.select_for_update().get(pk=base.pk)
    current = Pin.objects.current().filter(deployment__base_model=base)
    taken = current.aggregate(taken=Sum("bytes"))["taken"] or 0
    if taken + size > PINNED_BYTES:
        raise NotPinnable(
            f"{taken // MIB} of {PINNED_BYTES // MIB} MiB for pinned adapters of {base.name} are "
            "taken. Try again when one ends."
        )


def _hold(pin: Pin, acting_user: User, at: datetime) -> Hold:
    try:
        return open_hold(
            payer=pin.payer,
            amount=pin.fee,
            cause_kind=CAUSE,
            cause_id=pin.pk,
            terms=Terms.of_split(current_parameters().split),
            expires_at=at + PATIENCE * 2,
            acting_user=acting_user,
            at=at,
        )
    except InsufficientFunds as error:
        raise NoBalance(
            f"It costs {open_text(pin.fee)} OPEN, which is more than your balance. Deposit OPEN in "
            "your wallet (/wallet/) or pin it for fewer days."
        ) from error
    except LedgerError as error:
        raise NotSpendable(error.message, code=error.code) from error


def _tell(pin: Pin, title: str, body: str, at: datetime) -> None:
    notify(
        user=pin.payer, kind="deployment", title=title, body=body,
        url=pin.deployment.get_absolute_url(), at=at,
    )  # fmt: skip
