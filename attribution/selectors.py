"""Reading: records with their groups, receipts with everything that their page shows."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Case, Count, Exists, OuterRef, Q, QuerySet, Value, When

from accounts.blobs import read_bytes
from accounts.models import User
from attribution import bodies
from attribution.certainty import Certainty, certainty_of
from attribution.groups import parse
from attribution.models import (
    Attribution,
    ContributorShare,
    ExactAudit,
    Index,
    IndexPart,
    PastIndex,
    Receipt,
    ReceiptParent,
    RecordInfluence,
    Rescoring,
)
from attribution.passage_lines import Passages, passages_of
from attribution.retrievals import RetrievedLine, lines_of, reward_percent
from attribution.royalties import OwnerPart, Passed, capture_url, owner_parts_of, passed_on
from attribution.services.log import inclusion_bundle
from attribution.translog.money import readings
from datanets.models import Datanet, Record
from ledger.models import Refund
from ledger.selectors import refund_of
from ledger.splits import Part, Split
from modelfactory.models import Model

BRIEF_SHARES = 6
BRIEF_RECORDS = 5
SNIPPET = 200
PARTS_SHOWN = 50
LOOKED_BACK = timedelta(days=30)


@dataclass(frozen=True)
class RecordLine:
    """One of the top records as a reader may see it."""

    influence: RecordInfluence
    width: float
    snippet: str
    readable: bool
    datanet: Datanet | None


@dataclass(frozen=True)
class ShareLine:
    """A credit with the width of its bar, 0 to 100. `model_name` is by which of several models
    that answered as one; "" where one answered, or the reader may not see it."""

    share: ContributorShare
    width: float
    model_name: str = ""


@dataclass(frozen=True)
class ParentLine:
    """One of several models that answered as one. `model` is None where the reader may not see
    it; `outcome` is what it would have been alone."""

    parent: ReceiptParent
    model: Model | None
    index_root: str
    outcome: str


@dataclass(frozen=True)
class ReceiptView:
    shares: list[ShareLine]
    others: int
    records: list[RecordLine]
    retrieved: list[RetrievedLine]
    # Of the contributors' part, to those whose records were put into the prompt.
    reward_percent: str
    is_private: bool
    opposed: int
    log_index: int | None
    parts: list[tuple[str, int, int]]
    passages: Passages | None
    capture_url: str
    owner_parts: list[OwnerPart]
    passed_on: list[Passed]
    refund: Refund | None
    certainty: Certainty | None
    parents: list[ParentLine]

    @property
    def passed_total(self) -> int:
        return sum(one.amount for one in self.passed_on)

    @property
    def lacks_index(self) -> bool:
        """Whether one of several models had no index to say whose records shaped the answer."""
        return any(one.parent.without_index for one in self.parents)


def receipts_for(user: Any, *, mine: str = "", model: str = "") -> QuerySet[Receipt]:
    """Newest first. `mine` is "paid" or "earned"; `model` is a slug."""
    found = Receipt.objects.with_parts().seen_by(user).with_refunds()
    if mine and not user.is_authenticated:
        return found.none()
    if mine == "paid":
        found = found.filter(payer=user)
    elif mine == "earned":
        found = found.crediting(user)
    if model:
        named = Model.objects.visible_to(user).filter(slug=model)
        merged = ReceiptParent.objects.filter(receipt=OuterRef("pk"), model__in=named)
        found = found.filter(Q(model__in=named) | Exists(merged))
    # Grouping drops the order that the class has.
    return found.annotate(credited=Count("shares")).order_by("-id")


def without_index(*, at: datetime) -> list[ReceiptParent]:
    """Models of the last 30 days' answers that were settled without their index, newest first."""
    found = ReceiptParent.objects.filter(without_index=True, created_at__gte=at - LOOKED_BACK)
    return list(found.select_related("receipt", "model").order_by("-created_at")[:PARTS_SHOWN])


def panel_state(attribution: Attribution) -> str:
    if attribution.is_waiting:
        return "WAITING"
    return "DONE" if attribution.state == Attribution.State.DONE else "FAILED"


def index_of(model_id: UUID) -> Index | None:
    return Index.objects.filter(model_id=model_id).first()


def view_of(receipt: Receipt, user: Any, *, brief: bool = False) -> ReceiptView:
    """Everything that a receipt's page or, `brief`, its panel shows to `user`."""
    shares = list(receipt.shares.seen_by(user).select_related("contributor", "datanet", "model"))
    shown = shares[:BRIEF_SHARES] if brief else shares
    largest = max((share.share_ppb for share in shares), default=1)
    is_private = Receipt.objects.private_to(user).filter(pk=receipt.pk).exists()
    influences = [
        value for one in readings(receipt.public) for value in one["influence"]["groups"].values()
    ]
    parents = _parent_lines(receipt, user)
    names: dict[UUID | None, str] = {one.model.pk: str(one.model) for one in parents if one.model}
    has_model = receipt.model_id is not None or "merge" in receipt.public
    capture = capture_url(receipt)
    refund = refund_of(receipt.completion_id)
    return ReceiptView(
        shares=[
            ShareLine(share, 100 * share.share_ppb / largest, names.get(share.model_id, ""))
            for share in shown
        ],
        others=len(shares) - len(shown),
        records=_record_lines(receipt, user, BRIEF_RECORDS if brief else None)
        if is_private
        else [],
        retrieved=lines_of(receipt.private, user) if is_private else [],
        reward_percent=reward_percent(receipt.public),
        is_private=is_private,
        opposed=sum(1 for value in influences if int(value) <= 0),
        log_index=receipt.log_index,
        parts=_parts(receipt),
        passages=passages_of(receipt, user) if is_private and has_model else None,
        capture_url=capture,
        owner_parts=owner_parts_of(receipt, capture),
        passed_on=passed_on(receipt, user, capture),
        refund=refund,
        certainty=certainty_of(receipt),
        parents=parents,
    )


def _parent_lines(receipt: Receipt, user: Any) -> list[ParentLine]:
    merge = receipt.public.get("merge")
    if merge is None:
        return []
    rows = list(receipt.parents.all())
    models = Model.objects.visible_to(user).in_bulk([one.model_id for one in rows])
    outcomes = dict(Receipt.Outcome.choices)
    return [
        ParentLine(
            one, models.get(one.model_id), stated["index_root"] or "", outcomes[stated["outcome"]]
        )
        for one, stated in zip(rows, merge["parents"], strict=True)
    ]


def prompt_weights_of(completion_id: UUID, user: Any) -> list[int]:
    """How much each token of the prompt mattered, in parts of a million; for its payer alone.

    Empty where that was not computed, or nothing is known yet.
    """
    found = Receipt.objects.filter(completion_id=completion_id, payer=user.pk).first()
    if found is None or user.pk is None:
        return []
    payer = found.private.get("payer") or {}
    weights: list[int] = (payer.get("prompt_tokens") or {}).get("weights", [])
    return weights


def bundle_of(receipt: Receipt | Rescoring | ExactAudit) -> dict[str, Any] | None:
    """What a verifier reads; None while the receipt waits for its place in the log."""
    first = None if isinstance(receipt, Receipt) else receipt.receipt
    bundle = inclusion_bundle(receipt.pk, names=first.pk if first else None)
    if bundle is None:
        return None
    if first is not None:
        bundle["named"]["receipt"] = first.public
    kind = "statement" if isinstance(receipt, ExactAudit) else "receipt"
    return {kind: receipt.public, **bundle}


def private_of(receipt: Receipt | Rescoring, user: Any) -> dict[str, Any]:
    """The private part with the bytes of the answer's sketch in base64; salts for the payer."""
    sketch = read_bytes(receipt.sketch_id) if receipt.sketch_id else b""
    private = receipt.private
    payer = (receipt.receipt if isinstance(receipt, Rescoring) else receipt).payer_id
    if not private:
        return {"receipt": str(receipt.pk), "private": None, "sketch_base64": ""}
    return {
        "receipt": str(receipt.pk),
        "private": private if payer == user.pk else bodies.without_salts(private),
        "sketch_base64": b64encode(sketch).decode(),
    }


def groups_of(index: Index | PastIndex, user: Any) -> list[dict[str, Any]]:
    """The index's groups with their people and the Datanets that `user` sees, by records."""
    parsed = [(parse(group["group"]), group) for group in index.manifest["groups"]]
    people = User.objects.in_bulk([group.contributor for group, _ in parsed])
    datanets = Datanet.objects.visible_to(user).in_bulk([group.datanet for group, _ in parsed])
    lines = [
        {
            "contributor": people.get(group.contributor),
            "datanet": datanets.get(group.datanet),
            "datanet_id": group.datanet,
            "version": group.version,
            "count": stated["count"],
            "records_root": stated["records_root"],
        }
        for group, stated in parsed
    ]
    return sorted(lines, key=lambda line: -int(line["count"]))


def index_by_root(root: str) -> Index | PastIndex | None:
    """The index that has this root, or had it until another took its place."""
    found = Index.objects.filter(root=root).first() if root else None
    return found or PastIndex.objects.filter(root=root).first()


def parts_of(index: Index) -> list[IndexPart]:
    """The parts of an index that is built in parts: those at work and failed first, then the next,
    then those that are made; so many as fit a page."""
    order = (IndexPart.State.FAILED, IndexPart.State.BUILDING, IndexPart.State.QUEUED)
    ranks = [When(state=state, then=Value(rank)) for rank, state in enumerate(order)]
    rank = Case(*ranks, default=Value(len(order)))
    parts = IndexPart.objects.filter(index=index).defer("files").order_by(rank, "number")
    return list(parts[:PARTS_SHOWN])


def counts_of_parts(index: Index) -> tuple[int, int]:
    """How many parts are made, and how many there are."""
    made = Count("pk", filter=Q(state=IndexPart.State.READY))
    found = IndexPart.objects.filter(index=index).aggregate(made=made, all=Count("pk"))
    return found["made"], found["all"]


def may_read_index(index: Index | PastIndex, user: Any) -> bool:
    """Whether all Datanets behind the index are open to `user`. A past one is for nobody, nor is
    one that another shall replace: it holds what was withdrawn."""
    if isinstance(index, PastIndex) or index.state != Index.State.READY:
        return False
    wanted = {parse(group["group"]).datanet for group in index.manifest["groups"]}
    return Datanet.objects.visible_to(user).filter(pk__in=wanted).count() == len(wanted)


def _record_lines(receipt: Receipt, user: Any, limit: int | None) -> list[RecordLine]:
    found = list(receipt.record_influences.select_related("record", "contributor")[:limit])
    largest = max((line.influence for line in found), default=0) or 1
    of_model = _largest_of_models(receipt)
    visible = Record.objects.visible_to(user).filter(pk__in=[line.record_id for line in found])
    readable = {record.pk for record in visible if not record.is_withheld}
    datanets = Datanet.objects.visible_to(user).in_bulk({line.record.datanet_id for line in found})
    return [
        RecordLine(
            influence=line,
            width=100
            * line.influence
            / of_model.get((str(line.record_id), str(line.influence)), largest),
            snippet=line.record.excerpt[:SNIPPET] if line.record_id in readable else "",
            readable=line.record_id in readable,
            datanet=datanets.get(line.record.datanet_id),
        )
        for line in found
    ]


def _largest_of_models(receipt: Receipt) -> dict[tuple[str, str], int]:
    """Of several models that answered as one, by (record, influence): the largest influence of the
    same model, since influences of two models have no common unit."""
    found: dict[tuple[str, str], int] = {}
    for parent in (receipt.private or {}).get("parents", ()):
        records = [(one["record"], one["influence"]) for one in parent["records"]]
        largest = max((int(influence) for _, influence in records), default=0) or 1
        found |= dict.fromkeys(records, largest)
    return found


def _parts(receipt: Receipt) -> list[tuple[str, int, int]]:
    """(kind, basis points, wei) of the fee's split, as the ledger took it."""
    stated = receipt.public["split"]
    split = Split(
        stated["version"],
        tuple(Part(kind, points) for kind, points in sorted(stated["parts"].items())),
    )
    amounts = split.amounts(receipt.fee)
    return [(part.kind, part.basis_points, amounts[part.kind]) for part in split.parts]


def indexes_for(user: Any) -> QuerySet[Index]:
    """Indexes of the models that `user` sees."""
    models = Model.objects.visible_to(user).values("pk")
    return Index.objects.filter(model__in=models).select_related("model")
