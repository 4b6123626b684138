"""What of one answer's fee passed on to ancestors, as its receipt states it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from accounts import pages
from accounts.models import User
from attribution.models import Receipt
from datanets.models import Datanet
from ledger.models import Hold
from modelfactory.models import Model


@dataclass(frozen=True, slots=True)
class Passed:
    """Wei that passed to an ancestor: a model's owner, or a Datanet's treasury.

    `name` and `url` are "" for what the reader may not see; `entry_url` is the entry that paid it.
    """

    kind: str
    id: UUID
    name: str
    url: str
    holder: str
    amount: int
    entry_url: str


@dataclass(frozen=True, slots=True)
class OwnerPart:
    """What the asked model's owner kept, or those who staked on it got, in wei."""

    kind: str
    amount: int
    entry_url: str


def capture_url(receipt: Receipt) -> str:
    """The page of the entry that took the fee; "" where the answer was free."""
    hold = Hold.objects.filter(cause_kind="completion", cause_id=receipt.completion_id).first()
    return pages.url("entry", hold.closed_by_id) if hold else ""


def owner_parts_of(receipt: Receipt, entry_url: str) -> list[OwnerPart]:
    """Who shared the owner's part besides ancestors; none on receipts of before royalties."""
    parts = receipt.public.get("owner_parts") or []
    sums: dict[str, int] = defaultdict(int)
    for part in parts:
        if part["kind"] != "royalty":
            sums[part["kind"]] += int(part["amount"])
    return [OwnerPart(kind, amount, entry_url) for kind, amount in sums.items()]


def passed_on(receipt: Receipt, user: Any, entry_url: str) -> list[Passed]:
    """Royalties of the owner's part, then those of the Datanets' credits; the largest first."""
    settled = pages.url("entry", receipt.entry_id)
    to_models: dict[UUID, tuple[UUID, int]] = {}
    for part in receipt.public.get("owner_parts") or []:
        if part["kind"] == "royalty":
            # Several models that answered as one may pass on to the same.
            before = to_models.get(UUID(part["model"]), (None, 0))[1]
            to_models[UUID(part["model"])] = UUID(part["owner"]), before + int(part["amount"])
    to_datanets = _to_datanets(receipt.public)
    models = Model.objects.visible_to(user).in_bulk(to_models)
    datanets = Datanet.objects.visible_to(user).in_bulk(to_datanets)
    owners = User.objects.in_bulk([owner for owner, _ in to_models.values()])
    found = [
        Passed(
            "model", pk, str(models.get(pk, "")), _url(models.get(pk)),
            str(owners.get(owner, "")), amount, entry_url,
        )
        for pk, (owner, amount) in to_models.items()
    ] + [
        Passed(
            "datanet", pk, str(datanets.get(pk, "")), _url(datanets.get(pk)), "", amount, settled
        )
        for pk, amount in to_datanets.items()
    ]  # fmt: skip
    return sorted(found, key=lambda one: (one.kind != "model", -one.amount, one.id))


def _to_datanets(public: Mapping[str, Any]) -> dict[UUID, int]:
    sums: dict[UUID, int] = defaultdict(int)
    for credit in public.get("credits") or []:
        for royalty in credit["royalties"]:
            sums[UUID(royalty["datanet"])] += int(royalty["amount"])
    return dict(sums)


def _url(thing: Model | Datanet | None) -> str:
    return thing.get_absolute_url() if thing else ""
