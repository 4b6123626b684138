"""What a person's payout choices are, what they cost now, and the fees that they led to."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import QuerySet

from accounts.models import User
from ledger.governed import governed
from ledger.models import PayoutChoice, RelayReserve
from ledger.services.relays import RELAY_GAS, choice_of, relay_fee


@dataclass(frozen=True, slots=True)
class Choices:
    """Wei, but `gas`; `relay_fee` is `gas` units at the price of this moment.

    Earnings from `push_minimum` up to below `push_below` are pushed where the person wants it.
    """

    choice: PayoutChoice
    relay_fee: int
    gas: int
    push_minimum: int
    push_below: int

    @property
    def is_too_dear(self) -> bool:
        """The fee has risen above what was agreed to: none is set aside before a new choice."""
        return self.choice.claims != PayoutChoice.Claims.OWN and (
            self.relay_fee > self.choice.maximum_fee
        )


def choices_of(user: User) -> Choices:
    return Choices(
        choice=choice_of(user),
        relay_fee=relay_fee(),
        gas=RELAY_GAS,
        push_minimum=max(1, governed("payout.push_minimum")),
        push_below=governed("payout.push_below"),
    )


def fees_of(user: User) -> QuerySet[RelayReserve]:
    """Every relay fee that was taken from the person, the newest first."""
    return RelayReserve.objects.filter(user=user).select_related("payee", "claim")
