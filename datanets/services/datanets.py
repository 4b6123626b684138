"""A Datanet's life: created, edited, sent to review, published, taken down; and its people."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.text import slugify

from accounts import audit, events
from accounts.models import User
from accounts.naming import make_with_free_name, numbered
from accounts.notifications import notify
from datanets import access
from datanets.errors import DatanetError
from datanets.licences import LICENCES, why_not_derived
from datanets.models import Datanet, DatanetState, DataType, Membership, Role, Version
from datanets.services import origins

RESERVED_SLUGS = frozenset({"new", "contributions", "uploads", "records", "licences", "slashes"})
EDITABLE = frozenset({"name", "summary", "description", "rules", "tags", "licence"})


def create_datanet(
    *,
    name: str,
    summary: str,
    licence: str,
    acting_user: User,
    at: datetime,
    description: str = "",
    rules: str = "",
    tags: Sequence[str] = (),
    data_type: str = DataType.TEXT,
    derived_from: Version | None = None,
) -> Datanet:
    """Create a DRAFT Datanet that acting_user owns. Raises DatanetError LICENCE.

    With `derived_from` it begins with that version's records, which keep their contributors, and
    passes a royalty on (`services.derivation` says who may).
    """
    _require_licence(licence, derived_from)

    def make(slug: str) -> Datanet:
        return Datanet.objects.create(
            slug=slug,
            name=name,
            summary=summary,
            description=description,
            rules=rules,
            tags=list(tags),
            licence=licence,
            data_type=data_type,
            owner=acting_user,
            derived_from=derived_from,
            state_changed_at=at,
        )

    with transaction.atomic():
        slugs = numbered(slugify(name)[:70] or "datanet")
        datanet = make_with_free_name(slugs, is_taken=_is_slug_taken, make=make)
        Membership.objects.create(datanet=datanet, user=acting_user, role=Role.OWNER)
        data = {"derived_from": str(derived_from.pk)} if derived_from else {}
        audit.record(actor=acting_user, verb="datanet.created", target=datanet, at=at, data=data)
    return datanet


def edit_datanet(
    *, datanet: Datanet, changes: dict[str, Any], acting_user: User, at: datetime
) -> Datanet:
    """Change words and licence. Records keep the licence under which they came.

    Raises DatanetError: LICENCE, STATE (taken down).
    """
    access.require_owner(acting_user, datanet)
    changes = {key: value for key, value in changes.items() if key in EDITABLE}
    if "licence" in changes:
        _require_licence(changes["licence"], datanet.derived_from)
    with transaction.atomic():
        fresh = Datanet.objects.select_for_update().get(pk=datanet.pk)
        if fresh.state == DatanetState.TAKEN_DOWN:
            raise DatanetError("STATE", "This Datanet was taken down and cannot be changed.")
        before = {key: getattr(fresh, key) for key in changes}
        for key, value in changes.items():
            setattr(fresh, key, value)
        fresh.save(update_fields=list(changes))
        changed = {key: [before[key], value] for key, value in changes.items()
                   if before[key] != value}  # fmt: skip
        audit.record(actor=acting_user, verb="datanet.edited", target=fresh, data=changed, at=at)
    return fresh


def request_publication(*, datanet: Datanet, acting_user: User, at: datetime) -> None:
    """DRAFT → IN_REVIEW. Raises DatanetError: STATE, INCOMPLETE."""
    access.require_owner(acting_user, datanet)
    missing = missing_for_publication(datanet)
    if missing:
        raise DatanetError("INCOMPLETE", "Before publication, " + " and ".join(missing) + ".")
    with transaction.atomic():
        _move(datanet, DatanetState.DRAFT, DatanetState.IN_REVIEW, acting_user, at, "")
        for member in User.objects.filter(is_staff=True, is_active=True):
            notify(
                user=member,
                kind="datanets.publication_requested",
                title=f"{datanet.name} waits for publication",
                body=f"{acting_user} asks to have it published.",
                url="/staff/moderation/",
                at=at,
            )


def missing_for_publication(datanet: Datanet) -> list[str]:
    """What the owner still has to do, as parts of a sentence."""
    missing = []
    if not datanet.description.strip():
        missing.append("write a description")
    if not datanet.rules.strip():
        missing.append("write the rules by which records are accepted")
    has_records = datanet.derived_from_id is not None
    if not has_records and not datanet.contributions.filter(state="SUBMITTED").exists():
        missing.append("submit a first contribution")
    return missing


def approve_publication(*, datanet: Datanet, acting_user: User, at: datetime) -> None:
    """IN_REVIEW → PUBLISHED, by staff. Raises DatanetError STATE."""
    access.require_staff(acting_user)
    with transaction.atomic():
        _move(datanet, DatanetState.IN_REVIEW, DatanetState.PUBLISHED, acting_user, at, "")
        Datanet.objects.filter(pk=datanet.pk).update(published_at=at)
        origins.refresh_datanet(datanet)
        notify(
            user=datanet.owner,
            kind="datanets.published",
            title=f"{datanet.name} is published",
            body="Everybody can now see it and contribute.",
            url=datanet.get_absolute_url(),
            at=at,
        )
        events.emit("datanets.datanet_published", {"datanet_id": str(datanet.pk)}, at=at)


def send_back(*, datanet: Datanet, reason: str, acting_user: User, at: datetime) -> None:
    """IN_REVIEW → DRAFT with a reason that the owner reads. Raises DatanetError STATE, REASON."""
    access.require_staff(acting_user)
    reason = _require_reason(reason)
    with transaction.atomic():
        _move(datanet, DatanetState.IN_REVIEW, DatanetState.DRAFT, acting_user, at, reason)
        notify(
            user=datanet.owner,
            kind="datanets.sent_back",
            title=f"{datanet.name} was sent back",
            body=reason,
            url=datanet.get_absolute_url(),
            at=at,
        )


def take_down_datanet(*, datanet: Datanet, statement: str, acting_user: User, at: datetime) -> None:
    """Any state → TAKEN_DOWN with a public statement. Raises DatanetError STATE, REASON."""
    access.require_staff(acting_user)
    statement = _require_reason(statement)
    with transaction.atomic():
        fresh = Datanet.objects.select_for_update().get(pk=datanet.pk)
        if fresh.state == DatanetState.TAKEN_DOWN:
            raise DatanetError("STATE", "This Datanet has been taken down already.")
        _move(datanet, fresh.state, DatanetState.TAKEN_DOWN, acting_user, at, statement)
        origins.refresh_datanet(datanet)
        notify(
            user=datanet.owner,
            kind="datanets.taken_down",
            title=f"{datanet.name} was taken down",
            body=statement,
            url=datanet.get_absolute_url(),
            at=at,
        )
        events.emit("datanets.datanet_taken_down", {"datanet_id": str(datanet.pk)}, at=at)


def add_member(
    *, datanet: Datanet, user: User, role: str, acting_user: User, at: datetime
) -> Membership:
    """Give a person a role. Raises DatanetError ROLE, MEMBER."""
    access.require_owner(acting_user, datanet)
    if role not in (Role.REVIEWER, Role.BUILDER, Role.CONTRIBUTOR):
        raise DatanetError("ROLE", "Choose reviewer, builder or contributor.")
    if user.kind == User.Kind.UNCLAIMED:
        raise DatanetError("MEMBER", "A contributor without a login cannot hold a role.")
    with transaction.atomic():
        membership, is_new = Membership.objects.get_or_create(datanet=datanet, user=user, role=role)
        if is_new:
            audit.record(
                actor=acting_user,
                verb="datanet.member_added",
                target=datanet,
                data={"user": str(user.pk), "role": role},
                at=at,
            )
            notify(
                user=user,
                kind="datanets.role_given",
                title=f"You are {Role(role).label.lower()} of {datanet.name}",
                url=datanet.get_absolute_url(),
                at=at,
            )
    return membership


def remove_member(*, membership: Membership, acting_user: User, at: datetime) -> None:
    """Take a role away. Raises DatanetError ROLE for the owner's own."""
    datanet = membership.datanet
    if membership.user_id != acting_user.pk:
        access.require_owner(acting_user, datanet)
    if membership.role == Role.OWNER:
        raise DatanetError("ROLE", "A Datanet needs its owner.")
    with transaction.atomic():
        data = {"user": str(membership.user_id), "role": membership.role}
        audit.record(
            actor=acting_user, verb="datanet.member_removed", target=datanet, data=data, at=at
        )
        membership.delete()


def _move(
    datanet: Datanet, before: str, after: str, acting_user: User, at: datetime, statement: str
) -> None:
    with transaction.atomic():
        moved = Datanet.objects.filter(pk=datanet.pk, state=before).update(
            state=after, statement=statement, state_changed_at=at
        )
        if not moved:
            raise DatanetError(
                "STATE", f"This Datanet is no longer {DatanetState(before).label.lower()}."
            )
        data = {"from": before, "to": str(after), "statement": statement}
        audit.record(
            actor=acting_user, verb=f"datanet.{after.lower()}", target=datanet, data=data, at=at
        )
    datanet.refresh_from_db()


def _is_slug_taken(slug: str) -> bool:
    return slug in RESERVED_SLUGS or Datanet.objects.filter(slug=slug).exists()


def _require_licence(licence: str, derived_from: Version | None = None) -> None:
    if licence not in LICENCES:
        raise DatanetError("LICENCE", f"“{licence}” is no licence that a Datanet can carry.")
    why_not = why_not_derived(derived_from.licence, licence) if derived_from else ""
    if why_not:
        raise DatanetError("LICENCE", why_not)


def _require_reason(text: str) -> str:
    text = text.strip()
    if not text:
        raise DatanetError("REASON", "Say why: the people concerned will read it.")
    return text
