"""Short ways to write money tests: people, deposits, holds, captures, balances."""

from datetime import UTC, datetime, timedelta

from accounts.ids import uuid7
from accounts.models import User
from ledger.chain.addresses import to_checksum
from ledger.models import Account
from ledger.services.deposits import credit_deposit
from ledger.services.holds import Refs, capture_hold, open_hold
from ledger.services.opening import account_for
from ledger.splits import Part, Split

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
OPEN = 10**18
SPLIT = Split(
    1,
    (
        Part("platform", 1000),
        Part("model_owner", 2000),
        Part("stakers", 2000),
        Part("contributors", 5000),
    ),
)


def person(name):
    return User.objects.create_user(f"{name}@openledger.test", "a long password", handle=name)


def fund(user, amount, number=0):
    return credit_deposit(
        account_id=account_for(Account.Kind.USER, user.pk).pk, amount=amount, chain_id=31337,
        tx_hash=f"0x{user.pk.hex}{number:032x}", log_index=0, at=NOON,
    )


def balance_of(kind, owner_id=None):
    account = Account.objects.filter(kind=kind, owner_id=owner_id).first()
    return account.balance if account else 0


def hold_for(payer, amount, **changes):
    values = {
        "payer": payer, "amount": amount, "cause_kind": "completion", "cause_id": uuid7(),
        "split_version": SPLIT.version, "expires_at": NOON + timedelta(hours=1),
        "acting_user": payer, "at": NOON,
    }
    return open_hold(**values | changes)


def capture(hold, amount, **changes):
    values = {
        "hold": hold, "amount": amount, "split": SPLIT, "model_owner": None,
        "refs": Refs(model=uuid7(), completion=hold.cause_id), "acting_user": None, "at": NOON,
    }
    return capture_hold(**values | changes)


def earn(user, amount, number=0):
    """Give `user` earnings of exactly `amount` wei, through a fee of their own model."""
    hold = hold_for(fund_more(user, amount, number), amount)
    whole = Split(1, (Part("model_owner", 10_000),))
    capture(hold, amount, split=whole, model_owner=user)


def fund_more(user, amount, number):
    fund(user, amount, number + 1000)
    return user


def link(user, address, primary=True):
    user.wallets.update(is_primary=False)
    return user.wallets.create(address=to_checksum(address), is_primary=primary)
