"""Wallets: who signs in with one, linking and unlinking, which one is paid."""

from __future__ import annotations

from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models.functions import Lower

from accounts import audit, events, notifications
from accounts.models import User, Wallet


class WalletError(Exception):
    """What cannot be done with this wallet, said to the person."""


def holder_of(address: str) -> User | None:
    """The active person who has proven to hold the address."""
    wallet = (
        Wallet.objects.select_related("user")
        .alias(lower=Lower("address"))
        .filter(lower=address.lower())
        .first()
    )
    return wallet.user if wallet else None


def sign_in_or_join(*, address: str, at: datetime) -> tuple[User, bool]:
    """The person of a proven address, made at the first time: (user, is_new).

    Raises WalletError where the account is closed.
    """
    user = holder_of(address)
    if user is None:
        try:
            return _join(address=address, at=at), True
        except IntegrityError:
            # Two browsers came with the same new wallet at once; the other one made the account.
            user = holder_of(address)
    if user is None or not user.is_active:
        raise WalletError("This account is closed.")
    return user, False


def _join(*, address: str, at: datetime) -> User:
    with transaction.atomic():
        user = User.objects.create_user(
            None,
            None,
            display_name=f"{address[:6]}…{address[-4:]}",
            date_joined=at,
        )
        wallet = Wallet.objects.create(user=user, address=address, is_primary=True)
        audit.record(actor=user, verb="user.joined_by_wallet", target=user, at=at)
        _announce(wallet, user, at)
    return user


def link_wallet(*, user: User, address: str, acting_user: User, at: datetime) -> Wallet:
    """Add a proven address to the account; the first one becomes the one that is paid.

    Raises WalletError where somebody else has it.
    """
    try:
        with transaction.atomic():
            User.objects.select_for_update().get(pk=user.pk)
            own = user.wallets.alias(lower=Lower("address")).filter(lower=address.lower()).first()
            if own is not None:
                return own
            primary = not user.wallets.filter(is_primary=True).exists()
            wallet = Wallet.objects.create(user=user, address=address, is_primary=primary)
            audit.record(
                actor=acting_user,
                verb="wallet.linked",
                target=wallet,
                at=at,
                data={"address": address},
            )
            notifications.notify(
                user=user,
                kind="wallet.linked",
                title=f"Wallet {address} was linked to your account",
                body="If this was not you, unlink it and change your password.",
                url="/people/me/wallets/",
                at=at,
            )
            _announce(wallet, user, at)
            return wallet
    except IntegrityError as error:
        raise WalletError("This wallet is linked to another account.") from error


def unlink_wallet(*, wallet: Wallet, acting_user: User, at: datetime) -> None:
    """Take an address off the account; another one, if there is one, is paid from now on.

    Raises WalletError where nobody could sign in to the account afterwards.
    """
    with transaction.atomic():
        user = User.objects.select_for_update().get(pk=wallet.user_id)
        others = user.wallets.exclude(pk=wallet.pk).order_by("created_at")
        can_sign_in = bool(user.email) and user.has_usable_password()
        if not others.exists() and not can_sign_in:
            raise WalletError(
                "This wallet is your only way to sign in. "
                "Add an e-mail address and a password first."
            )
        audit.record(
            actor=acting_user,
            verb="wallet.unlinked",
            target=wallet,
            at=at,
            data={"address": wallet.address},
        )
        was_primary = wallet.is_primary
        wallet.delete()
        heir = others.first()
        if was_primary and heir is not None:
            heir.is_primary = True
            heir.save(update_fields=["is_primary"])


def make_primary(*, wallet: Wallet, acting_user: User, at: datetime) -> None:
    """Have this wallet be the one that is paid."""
    with transaction.atomic():
        User.objects.select_for_update().get(pk=wallet.user_id)
        Wallet.objects.filter(user_id=wallet.user_id, is_primary=True).update(is_primary=False)
        Wallet.objects.filter(pk=wallet.pk).update(is_primary=True)
        audit.record(
            actor=acting_user,
            verb="wallet.made_primary",
            target=wallet,
            at=at,
            data={"address": wallet.address},
        )


def _announce(wallet: Wallet, user: User, at: datetime) -> None:
    payload = {"user_id": str(user.pk), "address": wallet.address}
    events.emit("accounts.wallet_linked", payload, at=at)
