"""Slashes of stakes: proposed with evidence, appealed with a bond, decided by somebody else.

Every step moves the state by compare-and-set under the stake's row lock, so that an appeal in the
last second and the execution of the same slash cannot both happen.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db import transaction

from accounts import audit
from accounts.models import User
from accounts.notifications import notify
from datanets import access
from datanets.errors import DatanetError
from datanets.models import Contribution, ContributionStake, Record, Slash, SlashReason, SlashState
from datanets.models.slashes import OPEN_SLASH
from datanets.services.staking import lock_staked, locked_stakes
from ledger.errors import InsufficientFunds, SpendingBlocked
from ledger.models import Stake
from ledger.services.posting import Cause
from ledger.services.stakes import lock_stake, return_stake, slash_stake
from ledger.words import open_text

CAUSE = "slash"
MAX_RECORDS = 200
SWEEP = 200


def propose_slash(
    *,
    contribution: Contribution,
    reason: str,
    evidence: str,
    records: Iterable[UUID],
    acting_user: User,
    at: datetime,
) -> Slash:
    """Ask for the stated part of a contribution's stake; the contributor is told at once.

    The part was fixed when the stake was locked. Raises PermissionDenied; DatanetError: REASON,
    EVIDENCE, RECORDS, STATE (no stake, nothing left, or a slash is open), NOTHING.
    """
    access.require_reviewer(acting_user, contribution.datanet)
    evidence = evidence.strip()
    if reason not in SlashReason.values:
        raise DatanetError("REASON", "Choose what is wrong with the contribution.", status=400)
    if not evidence:
        raise DatanetError("EVIDENCE", "Write down what shows it: all will read it.", status=400)
    found = _evidence_records(contribution, records)
    locked = locked_stakes().filter(contribution=contribution).first()
    if locked is None:
        raise DatanetError("STATE", "No stake is locked on this contribution.")
    with transaction.atomic():
        staked = lock_staked(locked.pk)
        if staked.stake.staker_id == acting_user.pk:
            raise PermissionDenied("Nobody slashes their own stake.")
        if staked.stake.state != Stake.State.LOCKED:
            raise DatanetError("STATE", "No stake is locked on this contribution.")
        if staked.slashes.filter(state__in=OPEN_SLASH).exists():
            raise DatanetError("STATE", "A slash of this stake is open; it must be closed first.")
        slash = _write(staked, reason, evidence[:4_000], found, acting_user, at)
        _record(slash, "slash.proposed", acting_user, at, amount=str(slash.amount), reason=reason)
        _tell(
            staked.stake.staker,
            slash,
            f"{open_text(slash.amount)} OPEN of your stake are to be slashed",
            f"{slash.get_reason_display()}: {evidence}\n"
            f"You can appeal until {slash.appeal_until:%Y-%m-%d %H:%M} UTC.",
            at,
        )
    return slash


def withdraw_slash(*, slash: Slash, acting_user: User, at: datetime) -> None:
    """PROPOSED → WITHDRAWN by whoever proposed it. Raises PermissionDenied, DatanetError STATE."""
    if slash.proposed_by_id != acting_user.pk:
        raise PermissionDenied("Only who proposed a slash can take it back.")
    with transaction.atomic():
        lock_staked(slash.staked_id)
        _move(slash, SlashState.PROPOSED, SlashState.WITHDRAWN, closed_at=at)
        _record(slash, "slash.withdrawn", acting_user, at)
        _tell(slash.staker, slash, "A slash of your stake was taken back", "", at)


def appeal_slash(*, slash: Slash, text: str, acting_user: User, at: datetime) -> None:
    """PROPOSED → APPEALED within the window, with evidence and the bond.

    Raises PermissionDenied; DatanetError: EVIDENCE, WINDOW, BLOCKED (something is owed), FUNDS,
    STATE.
    """
    if slash.staker != acting_user:
        raise PermissionDenied("Only the contributor can appeal.")
    text = text.strip()
    if not text:
        raise DatanetError("EVIDENCE", "Say why the slash is wrong, and what shows it.", status=400)
    with transaction.atomic():
        lock_staked(slash.staked_id)
        if at >= slash.appeal_until:
            raise DatanetError("WINDOW", "The time to appeal is over.")
        bond = _lock_bond(slash, acting_user, at)
        _move(
            slash,
            SlashState.PROPOSED,
            SlashState.APPEALED,
            appeal=text[:4_000],
            appealed_at=at,
            bond=bond,
        )
        _record(slash, "slash.appealed", acting_user, at, bond=str(slash.bond_amount))
        for person in _judges(slash):
            _tell(person, slash, f"{slash.datanet.name}: an appeal waits for a decision", text, at)
        _tell(slash.proposed_by, slash, "Your slash was appealed", text, at)


def decide_appeal(
    *, slash: Slash, upheld: bool, statement: str, acting_user: User, at: datetime
) -> None:
    """APPEALED → UPHELD (the part and the bond go to the treasury) or OVERTURNED (the bond back).

    Raises PermissionDenied for whoever proposed it, the contributor, and everybody but staff and
    the Datanet's owner; DatanetError: REASON, STATE.
    """
    if not may_decide(acting_user, slash):
        raise PermissionDenied("Staff decide, or the owner where somebody else proposed the slash.")
    statement = statement.strip()
    if not statement:
        raise DatanetError("REASON", "Say why: both sides will read it.", status=400)
    with transaction.atomic():
        lock_staked(slash.staked_id)
        if Slash.objects.get(pk=slash.pk).state != SlashState.APPEALED:
            raise DatanetError("STATE", "This appeal has been decided already.")
        entry = _take(slash, acting_user, at) if upheld else None
        _settle_bond(slash, upheld, acting_user, at)
        state = SlashState.UPHELD if upheld else SlashState.OVERTURNED
        _move(
            slash,
            SlashState.APPEALED,
            state,
            decided_by=acting_user,
            statement=statement[:2_000],
            closed_at=at,
            entry=entry,
        )
        _record(slash, f"slash.{state.lower()}", acting_user, at, statement=statement)
        if not upheld:
            # What stands under a person's name: how often their accusations fell.
            audit.record(
                actor=acting_user,
                verb="slash.proposal_overturned",
                target=slash.proposed_by,
                at=at,
                data={"slash": str(slash.pk), "datanet": str(slash.datanet_id)},
            )
        for person in (slash.staker, slash.proposed_by):
            _tell(person, slash, f"The appeal is decided: {state.label.lower()}", statement, at)


def execute_due_slashes(*, at: datetime) -> int:
    """PROPOSED → EXECUTED where the window closed without an appeal; returns how many."""
    due = Slash.objects.filter(state=SlashState.PROPOSED, appeal_until__lte=at)
    return sum(_execute(slash, at) for slash in due.with_people().order_by("appeal_until")[:SWEEP])


def may_decide(user: Any, slash: Slash) -> bool:
    """Staff, or the Datanet's owner; never who proposed it or whose stake it is."""
    if not user.is_authenticated or user.pk in (slash.proposed_by_id, slash.staker.pk):
        return False
    return bool(user.is_staff) or access.may_own(user, slash.datanet)


def _execute(slash: Slash, at: datetime) -> int:
    with transaction.atomic():
        lock_staked(slash.staked_id)
        if Slash.objects.get(pk=slash.pk).state != SlashState.PROPOSED:
            return 0
        entry = _take(slash, None, at)
        _move(slash, SlashState.PROPOSED, SlashState.EXECUTED, entry=entry, closed_at=at)
        _record(slash, "slash.executed", None, at, entry=str(entry.pk))
        taken = f"{open_text(slash.amount)} OPEN of your stake were slashed"
        _tell(slash.staker, slash, taken, "Nobody appealed in time.", at)
        _tell(slash.proposed_by, slash, "Your slash was executed", "Nobody appealed in time.", at)
        return 1


def _write(
    staked: ContributionStake,
    reason: str,
    evidence: str,
    records: list[Record],
    acting_user: User,
    at: datetime,
) -> Slash:
    amount = staked.part(reason)
    if amount <= 0:
        raise DatanetError("NOTHING", "The terms of this stake take nothing for this reason.")
    slash = Slash.objects.create(
        staked=staked,
        datanet=staked.contribution.datanet,
        reason=reason,
        evidence=evidence,
        basis_points=staked.basis_points(reason),
        amount=amount,
        bond_amount=staked.bond,
        proposed_by=acting_user,
        appeal_until=at + timedelta(seconds=staked.appeal_seconds),
        created_at=at,
    )
    slash.records.set(records)
    return slash


def _evidence_records(contribution: Contribution, records: Iterable[UUID]) -> list[Record]:
    wanted = set(records)
    if len(wanted) > MAX_RECORDS:
        raise DatanetError("RECORDS", f"Name at most {MAX_RECORDS} records.", status=400)
    found = list(Record.objects.filter(contribution=contribution, pk__in=wanted))
    if not found or len(found) != len(wanted):
        raise DatanetError(
            "RECORDS", "Name records of this contribution, at least one of them.", status=400
        )
    return found


def _take(slash: Slash, acting_user: User | None, at: datetime) -> Any:
    return slash_stake(
        stake=slash.staked.stake,
        amount=slash.amount,
        treasury_of=slash.datanet_id,
        cause=Cause(CAUSE, slash.pk),
        acting_user=acting_user,
        at=at,
    )


def _lock_bond(slash: Slash, acting_user: User, at: datetime) -> Stake | None:
    if not slash.bond_amount:
        return None
    # Looked at before the money moves, so that an appeal made twice is told what it is.
    if Slash.objects.get(pk=slash.pk).state != SlashState.PROPOSED:
        raise DatanetError("STATE", _MOVED_ON)
    try:
        return lock_stake(
            staker=acting_user,
            amount=slash.bond_amount,
            cause_kind=CAUSE,
            cause_id=slash.pk,
            datanet_id=slash.datanet_id,
            acting_user=acting_user,
            at=at,
        )
    except SpendingBlocked as error:
        raise DatanetError("BLOCKED", error.message) from None
    except InsufficientFunds:
        raise DatanetError(
            "FUNDS",
            f"An appeal needs a bond of {open_text(slash.bond_amount)} OPEN, more than your "
            "spendable balance. Deposit OPEN on your wallet's page, then appeal.",
        ) from None


def _settle_bond(slash: Slash, upheld: bool, acting_user: User, at: datetime) -> None:
    bond = Slash.objects.select_related("bond").get(pk=slash.pk).bond
    if bond is None:
        return
    if not upheld:
        return_stake(stake=bond, acting_user=acting_user, at=at)
        return
    slash_stake(
        stake=bond,
        amount=bond.amount,
        treasury_of=slash.datanet_id,
        cause=Cause(CAUSE, slash.pk),
        acting_user=acting_user,
        at=at,
    )


def _judges(slash: Slash) -> list[User]:
    staff = User.objects.filter(is_staff=True, is_active=True)
    people = {person.pk: person for person in (*staff, slash.datanet.owner)}
    return [person for person in people.values() if may_decide(person, slash)]


_MOVED_ON = "This slash has moved on. Look at the page again."


def _move(slash: Slash, before: SlashState, after: SlashState, **fields: Any) -> None:
    moved = Slash.objects.filter(pk=slash.pk, state=before).update(state=after, **fields)
    if not moved:
        raise DatanetError("STATE", _MOVED_ON)
    slash.refresh_from_db()


def _record(slash: Slash, verb: str, actor: User | None, at: datetime, **data: Any) -> None:
    data["contribution"] = str(slash.staked.contribution_id)
    audit.record(actor=actor, verb=verb, target=slash, at=at, data=data)


def _tell(user: User, slash: Slash, title: str, body: str, at: datetime) -> None:
    notify(
        user=user,
        kind="datanets.slash",
        title=title,
        body=body,
        url=slash.get_absolute_url(),
        at=at,
    )
