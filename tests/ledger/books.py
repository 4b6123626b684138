"""Short ways to write money tests: people, deposits, holds, captures, balances."""

from datetime import UTC, datetime, timedelta

from accounts.ids import uuid7
from accounts.models import User
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
