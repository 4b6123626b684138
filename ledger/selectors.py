"""Reading the ledger: balances, earnings and the entries behind every figure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import OuterRef, Q, QuerySet, Subquery, Sum

from accounts.models import User, Wallet
from ledger.models import (
    Account,
    Claim,
    Distribution,
    DistributionCredit,
    DistributionLeaf,
    Entry,
    Hold,
    Intent,
    PayoutAddress,
    Posting,
    Refund,
    RelayReserve,
)
from ledger.truth import why_funding_waits

# Entries that earn: a model owner's part at capture, a contributor's at settlement.
EARNING = (Entry.Kind.CAPTURE, Entry.Kind.SETTLEMENT)

# Kinds of causes whose id is an account's.
OF_AN_ACCOUNT = ("account", "deposit")


@dataclass(frozen=True, slots=True)
class Pending:
    """An amount of wei that is not claimable yet, and why."""

    amount: int
    reason: str
    distribution: Distribution | None = None


@dataclass(frozen=True, slots=True)
class Payout:
    """What one address may claim now, and what it has had."""

    address: str
    claimable: int
    claimed: int
    published: int
    on_its_way: Claim | None = None
    # The relay fee that is set aside for its next claim.
    reserve: RelayReserve | None = None


@dataclass(frozen=True, slots=True)
class Earnings:
    """A user's earnings in wei; `received` is everything that was ever earned."""

    available: int
    received: int
    claimable: int
    claimed: int
    pending: Sequence[Pending] = field(default_factory=list)
    payouts: Sequence[Payout] = field(default_factory=list)

    @property
    def pending_total(self) -> int:
        return sum(item.amount for item in self.pending)


def balance(user: User) -> int:
    """The user's spendable balance in wei."""
    return _balance(Account.Kind.USER, user.pk)


def held(user: User) -> int:
    """What is set aside for the user's running work, in wei."""
    return _balance(Account.Kind.HOLD, user.pk)


def earned_and_here(user: User) -> int:
    """Earnings that were neither published nor made spendable yet, in wei."""
    return _balance(Account.Kind.EARNINGS, user.pk)


def under_way(user: User) -> int:
    """What is on its way to the user's wallets, in wei."""
    return _balance(Account.Kind.WITHDRAWING, user.pk)


def owed(user: User) -> int:
    """What the user owes, since the chain took back a deposit that was spent, in wei."""
    return -_balance(Account.Kind.RECEIVABLE, user.pk)


def earnings(user: User) -> Earnings:
    payouts = [_payout(address) for address in addresses_of(user)]
    return Earnings(
        available=_balance(Account.Kind.EARNINGS, user.pk),
        received=total_of(income(user)),
        claimable=sum(payout.claimable for payout in payouts),
        claimed=sum(payout.claimed for payout in payouts),
        pending=_pending(user),
        payouts=payouts,
    )


def income(user: User) -> QuerySet[Posting]:
    """Postings by which the user earned, and reversals of them; the newest first."""
    return (
        Posting.objects.filter(
            account__kind=Account.Kind.EARNINGS,
            account__owner_id=user.pk,
        )
        .filter(Q(entry__kind__in=EARNING) | Q(entry__reverses__kind__in=EARNING))
        .select_related("entry", "account")
        .order_by("-id")
    )


def statement(user: User) -> QuerySet[Posting]:
    """Every posting on the user's own accounts, the newest first."""
    return (
        Posting.objects.filter(
            account__kind__in=[Account.Kind.USER, Account.Kind.EARNINGS],
            account__owner_id=user.pk,
        )
        .select_related("entry", "account")
        .order_by("-id")
    )


def postings_of(account: Account) -> QuerySet[Posting]:
    """Every posting on the account, whichever of its rows it went to."""
    return Posting.objects.filter(account__in=account.shards)


def total_of(postings: QuerySet[Posting]) -> int:
    """The sum of postings in wei."""
    return postings.aggregate(total=Sum("amount"))["total"] or 0


def claims_of(user: User) -> QuerySet[Claim]:
    """Claims for any address that the user is paid to, the newest first."""
    return Claim.objects.filter(payee__in=addresses_of(user)).select_related("payee")


def faucet_intents(user: User) -> QuerySet[Intent]:
    """Deposits by the local chain's faucet for the user, the newest first."""
    accounts = Account.objects.filter(kind=Account.Kind.USER, owner_id=user.pk)
    return Intent.objects.filter(
        kind=Intent.Kind.FAUCET, cause_id__in=accounts.values("pk")
    ).order_by("-id")


def intents_held_by_caps() -> Sequence[Intent]:
    """Those that wait for a person's word, oldest first."""
    held = Intent.objects.filter(
        chain_id=settings.CHAIN_ID,
        state=Intent.State.NEW,
        held_by_cap__gt=0,
        cap_lifted_at__isnull=True,
    )
    return list(held.defer("data").order_by("id"))


def intents_of(distribution: Distribution) -> QuerySet[Intent]:
    """What was asked of the chain for a distribution, in order."""
    return Intent.objects.filter(cause_kind="distribution", cause_id=distribution.pk).order_by("id")


def publications_of(distribution: Distribution) -> QuerySet[Entry]:
    """The entries that moved a distribution's wei from earnings into escrow, in order."""
    return Entry.objects.filter(
        kind=Entry.Kind.DISTRIBUTION, cause_kind="distribution", cause_id=distribution.pk
    ).order_by("id")


def holds(user: User) -> QuerySet[Hold]:
    """The user's holds, the newest first, each with the refund of its fee where there is one."""
    return Hold.objects.filter(payer=user).select_related("refund").order_by("-created_at")


def refunds(user: User) -> QuerySet[Refund]:
    """Fees that came back to the user, the newest first."""
    return Refund.objects.filter(hold__payer=user).select_related("hold")


def refund_amount(completion_id: OuterRef) -> Subquery:
    """For annotations: wei of the completion's fee that were given back; None where none were."""
    found = Refund.objects.filter(hold__cause_kind="completion", hold__cause_id=completion_id)
    return Subquery(found.values("amount")[:1])


def refunded_of(completions: QuerySet[Any]) -> int:
    """Wei of the completions' fees that were given back."""
    found = Refund.objects.filter(
        hold__cause_kind="completion", hold__cause_id__in=completions.order_by().values("pk")
    )
    return int(found.aggregate(total=Sum("amount"))["total"] or 0)


def addresses_of(user: User) -> list[PayoutAddress]:
    """Paid addresses that the user holds now, or that their earnings were ever published to."""
    # Read first: with subqueries in an OR the database would walk through all addresses.
    linked = list(user.wallets.values_list("address", flat=True))
    credited = DistributionCredit.objects.filter(user=user).values_list("payee", flat=True)
    mine = Q(address__in=linked) | Q(pk__in=set(credited))
    return list(PayoutAddress.objects.filter(mine).order_by("id"))


def payout_wallet(user: User) -> Wallet | None:
    """The wallet that the next distribution pays: the primary one, else the newest."""
    return user.wallets.order_by("-is_primary", "-created_at").first()


def active_distribution() -> Distribution | None:
    """The distribution whose root is in force."""
    return Distribution.objects.filter(state=Distribution.State.ACTIVE).first()


def claimable_leaf(payee: PayoutAddress) -> DistributionLeaf | None:
    """The address's leaf under the root in force: the one of the last epoch that paid it."""
    active = active_distribution()
    return None if active is None else leaf_under(payee, active)


def leaf_under(payee: PayoutAddress, distribution: Distribution) -> DistributionLeaf | None:
    """The address's leaf in the tree of `distribution`; None where it had none yet."""
    until = payee.leaves.filter(distribution__epoch__lte=distribution.epoch)
    return until.order_by("-distribution__epoch").first()


def payee_by_address(address: str) -> PayoutAddress | None:
    return PayoutAddress.objects.filter(address__iexact=address).first()


def account_of(user: User, kind: Account.Kind) -> Account | None:
    return Account.objects.filter(kind=kind, owner_id=user.pk).first()


def account_of_owner(kind: Account.Kind, owner_id: UUID | None = None) -> Account | None:
    """The account of a Datanet, a stake or the house; None where no entry needed it yet."""
    return Account.objects.filter(kind=kind, owner_id=owner_id).first()


def cause_for(entry: Entry, user: Any) -> UUID | None:
    """The id of the entry's cause, but of an account that `user` may not see."""
    if entry.cause_kind in OF_AN_ACCOUNT and entry.cause_id is not None:
        visible = Account.objects.visible_to(user).filter(pk=entry.cause_id)
        return entry.cause_id if visible.exists() else None
    return entry.cause_id


def owner_handle(account: Account) -> str:
    """The handle of the user who owns the account, or "" where no user does."""
    if account.kind not in Account.OF_A_USER or account.owner_id is None:
        return ""
    return User.objects.filter(pk=account.owner_id).values_list("handle", flat=True).first() or ""


def owner_handles(accounts: Sequence[Account]) -> dict[UUID, str]:
    """Handles of the users who own `accounts`, by user id, in one statement."""
    owners = {a.owner_id for a in accounts if a.kind in Account.OF_A_USER and a.owner_id}
    return dict(User.objects.filter(pk__in=owners).values_list("pk", "handle"))


def totals() -> dict[str, int]:
    """Figures for the home page, in wei: paid in fees, earned by people, claimed on the chain."""
    fees = Hold.objects.filter(state=Hold.State.CAPTURED).aggregate(total=Sum("captured"))
    earned: Any = Posting.objects.filter(
        account__kind=Account.Kind.EARNINGS, entry__kind__in=EARNING
    ).aggregate(total=Sum("amount"))
    claimed = PayoutAddress.objects.aggregate(total=Sum("claimed"))
    return {
        "fees": fees["total"] or 0,
        "earned": earned["total"] or 0,
        "claimed": claimed["total"] or 0,
    }


def _balance(kind: Account.Kind, owner_id: UUID) -> int:
    return Account.objects.filter(kind=kind, owner_id=owner_id).total()


def _payout(payee: PayoutAddress) -> Payout:
    leaf = claimable_leaf(payee)
    return Payout(
        address=payee.address,
        claimable=max(0, leaf.cumulative - payee.claimed) if leaf else 0,
        claimed=payee.claimed,
        published=payee.published,
        on_its_way=payee.claims.filter(state=Claim.State.REQUESTED).first(),
        reserve=payee.reserves.filter(state=RelayReserve.State.RESERVED).first(),
    )


WHY = {
    Distribution.State.GATHERING: "The epoch's earnings are being gathered; a few minutes at most.",
    Distribution.State.DRAFT: "Recorded for the next epoch; it is sent once the one before is in.",
    Distribution.State.FUNDING: "OPEN is on its way to the distributor contract.",
    Distribution.State.ROOT_SUBMITTED: "The root was submitted; it waits for confirmations.",
    Distribution.State.FAILED: "The chain refused it; staff have been told and start it again.",
}
WAITING_FOR_CHAIN = "Waiting for a chain: this instance has none yet. Nothing expires."


def _pending(user: User) -> list[Pending]:
    waiting = (
        DistributionCredit.objects.filter(user=user)
        .exclude(distribution__state=Distribution.State.ACTIVE)
        .select_related("distribution")
        .order_by("distribution__epoch")
    )
    return [
        Pending(credit.amount, why_not_active(credit.distribution), credit.distribution)
        for credit in waiting
    ]


def why_not_active(distribution: Distribution) -> str:
    state = Distribution.State(distribution.state)
    if state == Distribution.State.DRAFT and not settings.CHAIN_ENABLED:
        return WAITING_FOR_CHAIN
    if state == Distribution.State.ROOT_SUBMITTED and distribution.activates_at:
        return (
            f"The root waits until {distribution.activates_at:%d %b %Y %H:%M} UTC, so that the "
            "guardian can stop a wrong one."
        )
    if state == Distribution.State.FUNDING:
        held = why_funding_waits(distribution)
        if held:
            return held
    return WHY.get(state, "")


def refund_of(completion_id: UUID) -> Refund | None:
    """The refund of the completion's fee, where it was given back."""
    return Refund.objects.filter(
        hold__cause_kind="completion", hold__cause_id=completion_id
    ).first()
