"""Stakes on contributions: asked for by the Datanet, locked at submission, given back in time."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import (
    Case,
    DateTimeField,
    DurationField,
    Exists,
    ExpressionWrapper,
    F,
    Max,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
)
from django.db.models.functions import Coalesce

from accounts import audit
from accounts.fields import WEI_LIMIT
from accounts.models import User
from accounts.notifications import notify
from datanets import access
from datanets.errors import DatanetError
from datanets.models import (
    Contribution,
    ContributionStake,
    ContributionState,
    Datanet,
    DatanetState,
    Record,
    RecordState,
    Slash,
    SlashReason,
)
from datanets.models.slashes import OPEN_SLASH
from governance.selectors import current_parameters
from ledger.errors import InsufficientFunds, SpendingBlocked
from ledger.models import Stake
from ledger.services.stakes import lock_stake, return_stake
from ledger.words import open_text

CAUSE = "contribution"
SWEEP = 200
PARTS = {
    SlashReason.REDUNDANT: "slash.redundant_bps",
    SlashReason.BIASED: "slash.biased_bps",
    SlashReason.ADVERSARIAL: "slash.adversarial_bps",
}


@dataclass(frozen=True, slots=True)
class Quote:
    """What a submission puts at risk, and on which terms. Amounts in wei, times in seconds."""

    amount: int
    parts: dict[str, int]
    appeal_seconds: int
    return_seconds: int
    bond: int
    parameter_version: int


def quote(*, datanet: Datanet, submitter: User) -> Quote | None:
    """The stake that a submission needs now; None where it needs none.

    The owner brings records without one: a slash would go to the treasury that they keep.
    """
    if not datanet.stake_amount or access.may_own(submitter, datanet):
        return None
    return terms_in_force(datanet)


def terms_in_force(datanet: Datanet) -> Quote:
    """What a stake on a contribution to this Datanet would be fixed to now."""
    governed = current_parameters()
    least = governed.governed("stake.contribution_min")
    return Quote(
        amount=max(datanet.stake_amount, least) if datanet.stake_amount else 0,
        parts={reason.value: governed.governed(key) for reason, key in PARTS.items()},
        appeal_seconds=governed.governed("slash.appeal_seconds"),
        return_seconds=governed.governed("stake.return_seconds"),
        bond=governed.governed("slash.bond"),
        parameter_version=governed.version,
    )


def lock_for(
    *, contribution: Contribution, agreed: int | None, acting_user: User, at: datetime
) -> ContributionStake | None:
    """Lock what the Datanet asks for; None where it asks for nothing.

    `agreed` is the amount that the person was shown; None takes whatever is asked. Raises
    DatanetError: STAKE (another amount is asked now), BLOCKED (something is owed), FUNDS.
    """
    asked = quote(datanet=contribution.datanet, submitter=acting_user)
    amount = asked.amount if asked else 0
    if agreed is not None and agreed != amount:
        raise DatanetError(
            "STAKE",
            f"This Datanet asks for a stake of {open_text(amount)} OPEN now. Look at the terms "
            "again, then submit.",
        )
    if asked is None:
        return None
    with transaction.atomic():
        try:
            stake = lock_stake(
                staker=acting_user,
                amount=amount,
                cause_kind=CAUSE,
                cause_id=contribution.pk,
                datanet_id=contribution.datanet_id,
                parameter_version=asked.parameter_version,
                acting_user=acting_user,
                at=at,
            )
        except SpendingBlocked as error:
            raise DatanetError("BLOCKED", error.message) from None
        except InsufficientFunds:
            raise DatanetError(
                "FUNDS",
                f"The stake of {open_text(amount)} OPEN is more than your spendable balance. "
                "Deposit OPEN on your wallet's page, then submit.",
            ) from None
        return ContributionStake.objects.create(
            contribution=contribution,
            stake=stake,
            redundant_bps=asked.parts[SlashReason.REDUNDANT],
            biased_bps=asked.parts[SlashReason.BIASED],
            adversarial_bps=asked.parts[SlashReason.ADVERSARIAL],
            appeal_seconds=asked.appeal_seconds,
            return_seconds=asked.return_seconds,
            bond=asked.bond,
            parameter_version=asked.parameter_version,
            created_at=at,
        )


def set_stake_amount(*, datanet: Datanet, amount: int, acting_user: User, at: datetime) -> None:
    """Ask for `amount` wei with every contribution from now on; 0 asks for nothing.

    Raises DatanetError: STAKE (less than the governed minimum), STATE (taken down).
    """
    access.require_owner(acting_user, datanet)
    least = current_parameters().governed("stake.contribution_min")
    if isinstance(amount, bool) or not isinstance(amount, int) or not 0 <= amount < WEI_LIMIT:
        raise DatanetError("STAKE", "A stake is a whole number of wei, or zero.", status=400)
    if 0 < amount < least:
        raise DatanetError(
            "STAKE",
            f"A stake is at least {open_text(least)} OPEN, or nothing at all.",
            status=400,
        )
    with transaction.atomic():
        fresh = Datanet.objects.select_for_update().get(pk=datanet.pk)
        if fresh.state == DatanetState.TAKEN_DOWN:
            raise DatanetError("STATE", "This Datanet was taken down and cannot be changed.")
        before, fresh.stake_amount = fresh.stake_amount, amount
        fresh.save(update_fields=["stake_amount"])
        audit.record(
            actor=acting_user,
            verb="datanet.stake_amount_set",
            target=fresh,
            data={"before": str(before), "amount": str(amount)},
            at=at,
        )
    datanet.refresh_from_db()


def returns_at(staked: ContributionStake) -> datetime | None:
    """When the stake goes back if no slash is open then; None while a record waits for a verdict.

    A contribution whose records were all withdrawn has nothing left to judge: its stake goes back
    at once. So does nothing wait for verdicts in a Datanet that was taken down.
    """
    found = _with_moments(ContributionStake.objects.filter(pk=staked.pk)).first()
    moment: datetime | None = found.due_at if found else None
    return moment


def return_due_stakes(*, at: datetime) -> int:
    """Give back every stake whose time has come; returns how many. Beat calls it."""
    disputed = Slash.objects.filter(staked=OuterRef("pk"), state__in=OPEN_SLASH)
    due = _with_moments(locked_stakes()).filter(~Q(Exists(disputed)), due_at__lte=at)
    pks = list(due.order_by("id").values_list("pk", flat=True)[:SWEEP])
    return sum(_return_if_due(pk, at) for pk in pks)


def return_after_failure(*, contribution: Contribution, at: datetime) -> None:
    """The worker was lost before any record was written: the stake goes back at once."""
    for staked in locked_stakes().filter(contribution=contribution):
        _give_back(staked, at, "Its records could not be written.")


def locked_stakes() -> QuerySet[ContributionStake]:
    """Stakes that may still be returned or slashed."""
    return ContributionStake.objects.filter(stake__state=Stake.State.LOCKED).select_related(
        "stake__staker", "contribution__datanet"
    )


def _with_moments(stakes: QuerySet[ContributionStake]) -> Any:
    """Each with `due_at`, null where nobody can say yet: one statement for all of them."""
    records = Record.objects.filter(contribution=OuterRef("contribution")).order_by()
    last = Coalesce(
        Subquery(records.values("contribution").annotate(last=Max("decided_at")).values("last")),
        F("contribution__submitted_at"),
    )
    window = ExpressionWrapper(
        F("return_seconds") * Value(timedelta(seconds=1)), output_field=DurationField()
    )
    pending = Q(Exists(records.filter(state=RecordState.PENDING))) & ~Q(
        contribution__datanet__state=DatanetState.TAKEN_DOWN
    )
    withdrawn = Q(Exists(records)) & ~Q(Exists(records.exclude(state=RecordState.WITHDRAWN)))
    return stakes.annotate(
        due_at=Case(
            When(~Q(contribution__state=ContributionState.SUBMITTED) | pending, then=None),
            When(withdrawn, then=last),
            default=ExpressionWrapper(last + window, output_field=DateTimeField()),
            output_field=DateTimeField(),
        )
    )


def _return_if_due(pk: UUID, at: datetime) -> int:
    with transaction.atomic():
        # The same lock as a proposal takes, so that no slash comes between the look and the entry.
        staked = lock_staked(pk)
        due = returns_at(staked)
        disputed = staked.slashes.filter(state__in=OPEN_SLASH).exists()
        if staked.stake.state != Stake.State.LOCKED or disputed or due is None or due > at:
            return 0
        _give_back(staked, at, "Its records are decided and nobody objected in time.")
        return 1


def lock_staked(pk: UUID) -> ContributionStake:
    """The row with the lock of its stake, under which slashes and returns wait for each other."""
    staked = ContributionStake.objects.select_related("contribution__datanet").get(pk=pk)
    staked.stake = (
        Stake.objects.select_for_update(of=("self",))
        .select_related("staker")
        .get(pk=staked.stake_id)
    )
    return staked


def _give_back(staked: ContributionStake, at: datetime, why: str) -> None:
    amount = staked.stake.left
    return_stake(stake=staked.stake, acting_user=None, at=at)
    notify(
        user=staked.stake.staker,
        kind="datanets.stake_returned",
        title=f"{open_text(amount)} OPEN of your stake on {staked.contribution.name} are back",
        body=why,
        url=staked.contribution.get_absolute_url(),
        at=at,
    )
