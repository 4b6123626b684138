"""The fee of a claim that we send in somebody's stead, and how a person wants to be paid.

The fee is an estimate: the gas of a claim to a fresh account times a stated price. It is set aside
by an entry before the epoch, so that the leaf is net of it, and lies in the RELAY account: ours
once our transaction has paid the claim, back with its owner where the wallet claims by itself or
nobody wants the relay any more. One fee at a time is set aside for an address, and only of people
who were shown it and agreed to as much.
"""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import transaction

from accounts import audit
from accounts.models import User
from ledger.errors import InsufficientFunds, LimitReached
from ledger.governed import governed
from ledger.models import Account, Claim, Entry, PayoutAddress, PayoutChoice, RelayReserve
from ledger.services.locking import lock_accounts
from ledger.services.opening import account_for
from ledger.services.posting import Cause, Leg, post_entry
from ledger.services.taking_turns import beside_no_publication
from ledger.words import open_text

# A first claim by a proof of 20 nodes takes 106,500 gas (tests/ledger/contracts/gas.json); with a
# fifth on top, since the price moves between the estimate and the block.
RELAY_GAS = 130_000
State = RelayReserve.State


def relay_fee() -> int:
    """What a relayed claim costs now, in wei."""
    price = settings.RELAY_GAS_PRICE_WEI
    return RELAY_GAS * (governed("relay.gas_price") if price is None else price)


def choice_of(user: User) -> PayoutChoice:
    """What the person chose, or what holds for somebody who has not."""
    return PayoutChoice.objects.filter(user=user).first() or PayoutChoice(user=user)


def reserved_for(payee: PayoutAddress) -> RelayReserve | None:
    """The fee that is set aside for the next claim of this address."""
    return payee.reserves.filter(state=State.RESERVED).first()


@transaction.atomic
def choose_payouts(
    *,
    user: User,
    claims: PayoutChoice.Claims,
    push: bool,
    shown_fee: int,
    acting_user: User,
    at: datetime,
) -> PayoutChoice:
    """Write down how the person wants to be paid; a fee that nobody needs goes back at once.

    `shown_fee` is what they saw a relayed claim to cost, in wei; no higher one is set aside later.
    Raises LimitReached where the fee has risen above it meanwhile.
    """
    beside_no_publication()
    own = claims == PayoutChoice.Claims.OWN
    if not own:
        check_shown(shown_fee)
    choice, _ = PayoutChoice.objects.update_or_create(
        user=user,
        defaults={"claims": claims, "push": push, "maximum_fee": 0 if own else shown_fee},
    )
    if own:
        mine = RelayReserve.objects.select_for_update(of=("self",)).filter(
            user=user, state=State.RESERVED
        )
        under_way = Claim.objects.filter(state=Claim.State.REQUESTED)
        unwanted = list(
            mine.exclude(payee__in=under_way.values("payee"))
            .select_related("source")
            .order_by("pk")
        )
        if unwanted:
            lock_accounts([account_for(Account.Kind.RELAY), *(one.source for one in unwanted)])
        for reserve in unwanted:
            give_back(reserve=reserve, claim=None, at=at)
    audit.record(
        actor=acting_user,
        verb="ledger.payouts_chosen",
        target=choice,
        at=at,
        data={"claims": str(claims), "push": push, "maximum_fee": str(choice.maximum_fee)},
    )
    return choice


def check_shown(shown_fee: int) -> None:
    """Nobody pays more than they were shown. Raises LimitReached where the fee is higher now."""
    fee = relay_fee()
    if fee > shown_fee:
        raise LimitReached(
            f"Sending a claim for you costs {open_text(fee)} OPEN now, more than the "
            f"{open_text(shown_fee)} OPEN that you were shown. Look at the fee, then choose again; "
            "nothing was changed."
        )


def fee_for_request(*, payee: PayoutAddress, user: User, at: datetime) -> RelayReserve | None:
    """The fee of a claim that is asked for now: the one set aside, or one taken at this moment.

    Where none was set aside before the epoch it comes out of the person's earnings that are not
    published yet, else out of the spendable balance. None where a relay costs nothing.

    Raises InsufficientFunds where there is no such fee. Call it in a transaction that holds the
    lock of `payee`.
    """
    known = reserved_for(payee)
    fee = relay_fee()
    if known is not None or fee == 0:
        return known
    source = _source(user, fee)
    if source is None:
        raise InsufficientFunds(
            f"Sending a claim for you costs {open_text(fee)} OPEN, and none was set aside for this "
            "wallet. Claim with your own wallet, deposit a little, or choose to have the fee set "
            "aside from your next earnings; nothing expires."
        )
    reserve = RelayReserve(payee=payee, user=user, source=source, amount=fee, created_at=at)
    reserve.entry = post_entry(
        kind=Entry.Kind.RELAY_FEE,
        key=f"relay-fee:{reserve.pk}",
        at=at,
        legs=[Leg(source, -fee), Leg(account_for(Account.Kind.RELAY), fee)],
        cause=Cause("relay", reserve.pk),
        acting_user=user,
    )
    reserve.save(force_insert=True)
    return reserve


def settle_fee(*, claim: Claim, relayed: bool, at: datetime) -> None:
    """The claim is paid: the fee is ours where our transaction paid it, else it goes back."""
    reserve = (
        RelayReserve.objects.select_for_update(of=("self",))
        .filter(payee_id=claim.payee_id, state=State.RESERVED)
        .first()
    )
    if reserve is None:
        return
    if relayed:
        _close(reserve, State.SPENT, account_for(Account.Kind.PLATFORM), claim, at)
    else:
        give_back(reserve=reserve, claim=claim, at=at)


def release_fee(*, claim: Claim, at: datetime) -> None:
    """The relay has failed for good: what was taken for this request alone goes back."""
    reserve = (
        RelayReserve.objects.select_for_update(of=("self",))
        .filter(payee_id=claim.payee_id, state=State.RESERVED)
        .first()
    )
    if reserve is None:
        return
    unwanted = choice_of(reserve.user).claims == PayoutChoice.Claims.OWN
    if reserve.distribution_id is None or unwanted:
        give_back(reserve=reserve, claim=claim, at=at)


def give_back(*, reserve: RelayReserve, claim: Claim | None, at: datetime) -> None:
    """Return a fee to the account that it came from."""
    _close(reserve, State.RETURNED, reserve.source, claim, at)


def _close(
    reserve: RelayReserve, state: RelayReserve.State, to: Account, claim: Claim | None, at: datetime
) -> None:
    spent = state == State.SPENT
    reserve.closed_by = post_entry(
        kind=Entry.Kind.RELAYED if spent else Entry.Kind.RELAY_BACK,
        key=f"relay-fee-end:{reserve.pk}",
        at=at,
        legs=[Leg(account_for(Account.Kind.RELAY), -reserve.amount), Leg(to, reserve.amount)],
        cause=Cause("relay", reserve.pk),
    )
    reserve.state, reserve.claim, reserve.closed_at = state, claim, at
    reserve.save(update_fields=["state", "claim", "closed_at", "closed_by"])


def _source(user: User, fee: int) -> Account | None:
    kinds = (Account.Kind.EARNINGS, Account.Kind.USER)
    able = {
        account.kind: account
        for account in Account.objects.filter(owner_id=user.pk, kind__in=kinds, balance__gte=fee)
    }
    return able.get(Account.Kind.EARNINGS) or able.get(Account.Kind.USER)
