"""Who may do what in a Datanet: one helper per level, used by services and pages alike."""

from typing import Any

from django.core.exceptions import PermissionDenied

from accounts.models import User
from datanets.models import Datanet, DatanetState, Membership, Record, Role


def roles_of(user: Any, datanet: Datanet) -> frozenset[str]:
    """The roles that the user holds in the Datanet."""
    if not user.is_authenticated:
        return frozenset()
    return frozenset(
        Membership.objects.filter(datanet=datanet, user=user).values_list("role", flat=True)
    )


def may_own(user: Any, datanet: Datanet) -> bool:
    return Role.OWNER in roles_of(user, datanet)


def may_review(user: Any, datanet: Datanet) -> bool:
    return bool({Role.OWNER, Role.REVIEWER} & roles_of(user, datanet))


def may_contribute(user: Any, datanet: Datanet) -> bool:
    """Anyone signed in, once it is published; before that its members."""
    if not user.is_authenticated or datanet.state == DatanetState.TAKEN_DOWN:
        return False
    return datanet.state == DatanetState.PUBLISHED or bool(roles_of(user, datanet))


def may_withdraw(user: Any, record: Record) -> bool:
    """The contributor, or who submitted it for a contributor without a login."""
    if not user.is_authenticated:
        return False
    if record.contributor_id == user.pk:
        return True
    is_unclaimed = record.contributor.kind == User.Kind.UNCLAIMED
    return is_unclaimed and record.contribution.submitter_id == user.pk


def require_owner(user: Any, datanet: Datanet) -> None:
    """Raise PermissionDenied for anyone but the owner."""
    if not may_own(user, datanet):
        raise PermissionDenied("Only the owner of this Datanet can do this.")


def require_reviewer(user: Any, datanet: Datanet) -> None:
    """Raise PermissionDenied for anyone but owner and reviewers."""
    if not may_review(user, datanet):
        raise PermissionDenied("Only reviewers of this Datanet can do this.")


def require_contributor(user: Any, datanet: Datanet) -> None:
    """Raise PermissionDenied where the Datanet takes no contributions from the user."""
    if not may_contribute(user, datanet):
        raise PermissionDenied("This Datanet does not take contributions from you.")


def require_staff(user: Any) -> None:
    """Raise PermissionDenied for anyone but staff."""
    if not (user.is_authenticated and user.is_staff):
        raise PermissionDenied("Only staff can do this.")
