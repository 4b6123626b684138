"""What a contributor puts at risk with a contribution, and how a part of it may be taken."""

from typing import Any

import pgtrigger
from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.urls import reverse

from accounts.fields import WeiField
from accounts.models.base import Entity
from datanets.models.contributions import Contribution
from datanets.models.datanets import Datanet, DatanetState, Viewer
from datanets.models.records import Record
from ledger.models import Entry, Stake

BASIS_POINTS = 10_000


class SlashReason(models.TextChoices):
    REDUNDANT = "REDUNDANT", "It repeats what was there"
    BIASED = "BIASED", "It is one-sided or slanted"
    ADVERSARIAL = "ADVERSARIAL", "It was made to do harm"


class ContributionStake(Entity):
    """The stake of one contribution with the terms of the moment at which it was locked.

    Governance may change every figure below for later stakes; none of these columns ever changes.
    """

    contribution = models.ForeignKey(Contribution, on_delete=models.PROTECT, related_name="stakes")
    stake = models.OneToOneField(Stake, on_delete=models.PROTECT, related_name="+")
    # What part of the stake a slash takes, in basis points, by reason.
    redundant_bps = models.PositiveSmallIntegerField()
    biased_bps = models.PositiveSmallIntegerField()
    adversarial_bps = models.PositiveSmallIntegerField()
    appeal_seconds = models.PositiveIntegerField()
    return_seconds = models.PositiveIntegerField()
    bond = WeiField()
    parameter_version = models.PositiveIntegerField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(redundant_bps__lte=BASIS_POINTS)
                & Q(biased_bps__lte=BASIS_POINTS)
                & Q(adversarial_bps__lte=BASIS_POINTS)
                & Q(bond__gte=0),
                name="contribution_stake_takes_no_more",
            )
        ]
        triggers = [
            pgtrigger.Protect(
                name="contribution_stake_is_fixed", operation=pgtrigger.Update | pgtrigger.Delete
            )
        ]

    def __str__(self) -> str:
        return f"{self.stake} of {self.contribution}"

    def basis_points(self, reason: str) -> int:
        """What part a slash for this reason takes."""
        return {
            SlashReason.REDUNDANT: self.redundant_bps,
            SlashReason.BIASED: self.biased_bps,
            SlashReason.ADVERSARIAL: self.adversarial_bps,
        }[SlashReason(reason)]

    def part(self, reason: str) -> int:
        """The same in wei, rounded down, and never more than is left."""
        taken: int = self.stake.amount * self.basis_points(reason) // BASIS_POINTS
        return min(taken, self.stake.left)


class SlashState(models.TextChoices):
    """PROPOSED → EXECUTED when the window closes, or → APPEALED → UPHELD or OVERTURNED.

    WITHDRAWN: whoever proposed it took it back before an appeal.
    """

    PROPOSED = "PROPOSED", "Proposed, may be appealed"
    APPEALED = "APPEALED", "Appealed, to be decided"
    EXECUTED = "EXECUTED", "Executed, nobody appealed"
    UPHELD = "UPHELD", "Upheld on appeal"
    OVERTURNED = "OVERTURNED", "Overturned on appeal"
    WITHDRAWN = "WITHDRAWN", "Taken back"

    @property
    def chip(self) -> str:
        """The chip's colour."""
        return {
            "PROPOSED": "warn",
            "APPEALED": "info",
            "EXECUTED": "bad",
            "UPHELD": "bad",
            "OVERTURNED": "good",
        }.get(self.value, "")


OPEN_SLASH = ("PROPOSED", "APPEALED")
TAKEN_SLASH = ("EXECUTED", "UPHELD")


class SlashQuerySet(models.QuerySet["Slash"]):
    def visible_to(self, user: Viewer) -> "SlashQuerySet":
        """What was taken in published Datanets is public; the rest is for the people concerned.

        They are the contributor, the Datanet's owner and reviewers, and staff.
        """
        if user.is_staff:
            return self
        public = Q(state__in=TAKEN_SLASH, datanet__state=DatanetState.PUBLISHED)
        if not user.is_authenticated:
            return self.filter(public)
        reviewed = Datanet.objects.with_role(user, "OWNER", "REVIEWER").values("pk")
        concerned = Q(staked__stake__staker=user) | Q(proposed_by=user) | Q(datanet__in=reviewed)
        return self.filter(public | concerned)

    def with_people(self) -> "SlashQuerySet":
        return self.select_related(
            "datanet", "staked__stake__staker", "staked__contribution", "proposed_by", "decided_by"
        )


class Slash(Entity):
    """The wish to take a stated part of a stake, with its evidence, and what became of it."""

    staked = models.ForeignKey(ContributionStake, on_delete=models.PROTECT, related_name="slashes")
    # The same as the contribution's, so that lists and visibility need no third join.
    datanet = models.ForeignKey(Datanet, on_delete=models.PROTECT, related_name="slashes")
    state = models.CharField(max_length=10, choices=SlashState.choices, default=SlashState.PROPOSED)
    reason = models.CharField(max_length=12, choices=SlashReason.choices)
    evidence = models.TextField(max_length=4_000)
    records = models.ManyToManyField(Record, related_name="slashes")
    basis_points = models.PositiveSmallIntegerField()
    amount = WeiField()
    bond_amount = WeiField()
    proposed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="slashes_proposed"
    )
    appeal_until = models.DateTimeField()
    appeal = models.TextField(blank=True, default="", max_length=4_000)
    appealed_at = models.DateTimeField(null=True, blank=True)
    bond = models.OneToOneField(
        Stake, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    statement = models.TextField(blank=True, default="", max_length=2_000)
    closed_at = models.DateTimeField(null=True, blank=True)
    entry = models.OneToOneField(
        Entry, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )

    objects = SlashQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["state", "appeal_until"], name="slash_by_window"),
            models.Index(fields=["datanet", "-id"], name="slash_by_datanet"),
            models.Index(fields=["proposed_by", "state"], name="slash_by_proposer"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["staked"], condition=Q(state__in=OPEN_SLASH), name="slash_one_open"
            ),
            models.CheckConstraint(
                condition=Q(amount__gt=0)
                & Q(basis_points__gt=0)
                & Q(basis_points__lte=BASIS_POINTS)
                & Q(bond_amount__gte=0),
                name="slash_takes_something",
            ),
            models.CheckConstraint(
                condition=(Q(state__in=TAKEN_SLASH) & Q(entry__isnull=False))
                | (~Q(state__in=TAKEN_SLASH) & Q(entry__isnull=True)),
                name="slash_taken_by_an_entry",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=("APPEALED", "UPHELD", "OVERTURNED"))
                | (Q(appealed_at__isnull=False) & (Q(bond__isnull=False) | Q(bond_amount=0))),
                name="slash_appealed_with_a_bond",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=("UPHELD", "OVERTURNED"))
                | (Q(decided_by__isnull=False) & ~Q(statement="")),
                name="slash_decided_with_a_statement",
            ),
            # Nobody judges their own accusation.
            models.CheckConstraint(
                condition=Q(decided_by__isnull=True) | ~Q(decided_by=F("proposed_by")),
                name="slash_decided_by_another",
            ),
            models.CheckConstraint(
                condition=(Q(state__in=OPEN_SLASH) & Q(closed_at__isnull=True))
                | (~Q(state__in=OPEN_SLASH) & Q(closed_at__isnull=False)),
                name="slash_closed_at",
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="slash_is_never_deleted", operation=pgtrigger.Delete),
            pgtrigger.ReadOnly(
                name="slash_keeps_its_terms",
                fields=[
                    "id", "staked", "datanet", "reason", "evidence", "basis_points", "amount",
                    "bond_amount", "proposed_by", "appeal_until",
                ],
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.reason} {self.state}"

    def get_absolute_url(self) -> str:
        return reverse("datanets:slash", args=[self.pk])

    @property
    def phase(self) -> SlashState:
        """The state as an enum, for templates."""
        return SlashState(self.state)

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_SLASH

    @property
    def staker(self) -> Any:
        """Whose stake it is."""
        return self.staked.stake.staker
