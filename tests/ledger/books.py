"""Short ways to write money tests: people, deposits, holds, captures, balances."""

from datetime import UTC, datetime, timedelta

from accounts.ids import uuid7
from accounts.models import User
from ledger.chain.addresses import to_checksum
from ledger.fees import Terms
from ledger.models import Account
from ledger.services import claims, roots
from ledger.services.deposits import credit_deposit
from ledger.services.distributions import publish_distribution
from ledger.services.holds import Refs, capture_hold, open_hold, terms_of
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
        account_id=account_for(Account.Kind.USER, user.pk).pk,
        amount=amount,
        chain_id=31337,
        tx_hash=f"0x{user.pk.hex}{number:032x}",
        log_index=0,
        at=NOON,
    )


def balance_of(kind, owner_id=None):
    return Account.objects.filter(kind=kind, owner_id=owner_id).total()


def terms_with(split=SPLIT, model_owner=None, **changes):
    owner = model_owner.pk if model_owner else None
    return Terms(split=split, model_owner=owner, **changes)


def hold_for(payer, amount, *, split=SPLIT, model_owner=None, terms=None, **changes):
    """A hold of terms that are plain, unless they are given."""
    values = {
        "payer": payer,
        "amount": amount,
        "cause_kind": "completion",
        "cause_id": uuid7(),
        "terms": terms or terms_with(split, model_owner),
        "expires_at": NOON + timedelta(hours=1),
        "acting_user": payer,
        "at": NOON,
    }
    return open_hold(**values | changes)


def capture(hold, amount, **changes):
    values = {
        "hold": hold,
        "amount": amount,
        "terms": terms_of(hold),
        "refs": Refs(model=uuid7(), completion=hold.cause_id),
        "acting_user": None,
        "at": NOON,
    }
    return capture_hold(**values | changes)


def earn(user, amount, number=0):
    """Give `user` earnings of exactly `amount` wei, through a fee of their own model."""
    whole = Split(1, (Part("model_owner", 10_000),))
    hold = hold_for(fund_more(user, amount, number), amount, split=whole, model_owner=user)
    capture(hold, amount)


def fund_more(user, amount, number):
    fund(user, amount, number + 1000)
    return user


def link(user, address, primary=True):
    user.wallets.update(is_primary=False)
    return user.wallets.create(address=to_checksum(address), is_primary=primary)


FIRST, SECOND = "0x" + "11" * 20, "0x" + "22" * 20


def publish(**changes):
    return publish_distribution(**{"at": NOON, "acting_user": None} | changes)


def funded(distribution, **changes):
    """Tell the ledger what the indexer would: the distributor was funded."""
    values = {
        "batch_id": distribution.pk,
        "amount": distribution.amount,
        "chain_id": 31337,
        "tx_hash": f"0xf{distribution.epoch}",
        "log_index": 0,
        "at": NOON,
    }
    roots.on_funded(**values | changes)
    distribution.refresh_from_db()


def rooted(distribution):
    """The root is in force."""
    roots.on_root_published(
        epoch=distribution.epoch, root=distribution.root, chain_id=31337, at=NOON
    )
    distribution.refresh_from_db()


def activate(distribution):
    funded(distribution)
    rooted(distribution)
    return distribution


def paid(amount=100, cumulative=100, **changes):
    """A claim was paid on the chain."""
    values = {
        "address": FIRST,
        "amount": amount,
        "cumulative": cumulative,
        "chain_id": 31337,
        "tx_hash": "0xC1",
        "log_index": 0,
        "at": NOON,
    }
    return claims.record_claim(**values | changes)
