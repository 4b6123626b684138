"""The two parts of a receipt as JSON.

The public part carries no text: prompt and answer stand in it as hashes with salts, and the private
part as the hash of its canonical form. The salts are the payer's alone, since whoever has one can
try guesses at a prompt; in what is hashed of the private part they stand as a hash themselves, so
that the other parties check it without them.
Wei and influences are decimal strings, since JSON's own numbers end at 2**53 - 1.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from attribution import retrievals
from attribution.crediting import Crediting
from attribution.influence import confidence
from attribution.influence.confidence import Confidence
from attribution.models import Attribution
from attribution.translog import canonical
from ledger import fees
from ledger.splits import Part, Split
from modelfactory.models import Model

SCHEMA = "openledger-attribution/4"
# Receipts of before there were royalties (1), passages (2) and confidence (3); they stay valid.
SCHEMAS = frozenset({*(f"openledger-attribution/{number}" for number in (1, 2, 3)), SCHEMA})
# Of several models that answered as one: nobody shall read it as a receipt of one model.
MERGED_SCHEMA = "openledger-attribution-merge/1"
SCHEMAS |= {MERGED_SCHEMA}

SALTS = ("prompt_salt", "answer_salt")


@dataclass(frozen=True, slots=True)
class TopRecord:
    """A record that helped, with its sketch's integer score."""

    record_id: UUID
    contributor_id: UUID
    influence: int
    # Of its near-duplicates, which are paid as one; see `datanets.ingest.prints.cluster_hash`.
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """Characters `start` to `end` of an answer, which stand verbatim in records.

    `places` is in how many places of the versions; `rarity` is in 1/1024 bit.
    """

    start: int
    end: int
    text: str
    tokens: int
    places: int
    rarity: int
    records: tuple[tuple[UUID, UUID], ...]  # (record, contributor)


@dataclass(frozen=True, slots=True)
class Found:
    """`method` is what the receipt says of it: how, in which indexes, and which are missing."""

    method: Mapping[str, Any]
    passages: Sequence[FoundPassage] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the attribute worker found. All of it is integers but the scales, which say what the
    integers mean and decide nothing. Empty for a base model, which has no contributors."""

    index_root: str = ""
    method: Mapping[str, Any] | None = None
    influences: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    records: Sequence[TopRecord] = ()
    sketch: bytes = b""
    sketch_bits: int = 8
    sketch_step: float = 1.0
    has_answer: bool = True
    # Whether the index could be built. One that is not needed, since no records are left, could.
    has_index: bool = True
    # How sure the influences are; None where the index has no null.
    confidence: Confidence | None = None
    # One signed weight for each token of the prompt; the payer's alone.
    prompt_method: Mapping[str, Any] | None = None
    prompt_weights: Sequence[int] = ()
    # Passages that stand verbatim in records; None for a base model.
    found: Found | None = None
    # What was found about each of several models that answered as one. What they have together,
    # records, sketches one behind the other and passages, stands above.
    parents: Sequence[ParentEvidence] = ()


@dataclass(frozen=True, slots=True)
class ParentEvidence:
    """One of several models that answered as one, which `share_ppb` of 10**9 is paid for."""

    model: Model
    share_ppb: int
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Money:
    """What the ledger did: the contributors' part in wei and the entry that divided it."""

    contributors: int
    entry_id: UUID | None


def salted_sha256(salt: str, text: str) -> str:
    """Hex SHA-256 of the salt's bytes (hex) and the text's UTF-8."""
    return hashlib.sha256(bytes.fromhex(salt) + text.encode()).hexdigest()


def private_part(
    attribution: Attribution, evidence: Evidence, *, salts: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The payer's salts, the answer's sketch by hash, the top records, and the passages.

    `salts` are those of an earlier receipt of the same answer; new ones where there is none.
    """
    payer: dict[str, Any] = {
        name: salts[name] if salts else secrets.token_hex(32) for name in SALTS
    }
    if evidence.prompt_method:
        weights = list(evidence.prompt_weights)
        payer["prompt_tokens"] = {**evidence.prompt_method, "weights": weights}
    return {
        "schema": SCHEMA,
        "completion": str(attribution.completion_id),
        "salt": secrets.token_hex(32),
        "payer": payer,
        "payer_sha256": canonical.sha256(payer),
        "sketch": sketch_part(evidence),
        "records": records_part(evidence),
        "passages": [_passage(one) for one in evidence.found.passages] if evidence.found else None,
        "retrieved": retrievals.private_part(attribution.retrieval),
    }


def sketch_part(evidence: Evidence) -> dict[str, Any] | None:
    """An answer's sketch by its hash, and what its integers mean; None where there is none."""
    if not evidence.sketch:
        return None
    return {
        "sha256": hashlib.sha256(evidence.sketch).hexdigest(),
        "bits": evidence.sketch_bits,
        "step": repr(evidence.sketch_step),
    }


def records_part(evidence: Evidence) -> list[dict[str, str]]:
    return [
        {
            "record": str(top.record_id),
            "contributor": str(top.contributor_id),
            "influence": str(top.influence),
            **({"cluster": top.cluster} if top.cluster else {}),
        }
        for top in evidence.records
    ]


def _passage(one: FoundPassage) -> dict[str, Any]:
    """Where a passage stands, in the answer by characters; its words are in neither part."""
    return {
        "start": one.start,
        "end": one.end,
        "tokens": one.tokens,
        "places": one.places,
        "rarity": one.rarity,
        "records": [
            {"record": str(record), "contributor": str(contributor)}
            for record, contributor in one.records
        ],
    }


def without_salts(private: Mapping[str, Any]) -> dict[str, Any]:
    """What every party of a receipt may read, and what `private_sha256` is the hash of."""
    return {name: value for name, value in private.items() if name != "payer"}


def public_part(
    *,
    receipt_id: UUID,
    attribution: Attribution,
    evidence: Evidence,
    crediting: Crediting,
    money: Money,
    paid: Mapping[str, fees.Credited],
    private: Mapping[str, Any],
    at: datetime,
) -> dict[str, Any]:
    """What is hashed into the log and shown to everyone; `paid` is what `credited` says."""
    model = attribution.model
    return {
        "schema": SCHEMA,
        "id": str(receipt_id),
        "at": at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "completion": str(attribution.completion_id),
        "model": model_part(model) if model else None,
        "index_root": evidence.index_root or None,
        "method": dict(evidence.method) if evidence.method else None,
        "spans": dict(evidence.found.method) if evidence.found else None,
        "retrieval": retrievals.public_part(attribution.retrieval),
        "prompt_sha256": salted_sha256(private["payer"]["prompt_salt"], attribution.prompt),
        "answer_sha256": salted_sha256(private["payer"]["answer_salt"], attribution.answer),
        "private_sha256": canonical.sha256(without_salts(private)),
        "outcome": crediting.outcome,
        "influence": influence_part(evidence),
        "confidence": confidence_part(evidence.confidence),
        "shares": crediting.shares,
        "credits": [_credit(one, bool(crediting.parents)) for one in paid.values()],
        "price": {
            "input": str(attribution.input_price),
            "output": str(attribution.output_price),
            "prompt_tokens": attribution.prompt_tokens,
            "completion_tokens": attribution.completion_tokens,
            "fee": str(attribution.fee),
        },
        "split": attribution.split,
        "terms": attribution.terms,
        "owner_parts": owner_parts(attribution),
        "contributors_amount": str(money.contributors),
        "settlement": str(money.entry_id) if money.entry_id else None,
    }


def model_part(model: Model) -> dict[str, Any]:
    return {
        "id": str(model.pk),
        "manifest_sha256": model.manifest_sha256,
        "adapter_sha256": model.adapter_sha256,
    }


def influence_part(evidence: Evidence) -> dict[str, Any]:
    return {
        "groups": {name: str(value) for name, value in evidence.influences.items()},
        "records": dict(evidence.counts),
    }


def confidence_part(found: Confidence | None) -> dict[str, Any] | None:
    """Thousandths of a deviation above what foreign records get, and above permuted labels."""
    if found is None:
        return None
    return {
        "method": confidence.METHOD,
        "version": found.version,
        "level_ppm": found.level,
        "threshold": found.threshold,
        "clear": found.clear,
        "groups": found.scores,
        "apart": found.apart,
    }


def credited(
    attribution: Attribution, crediting: Crediting, money: Money
) -> dict[str, fees.Credited]:
    """What each credit comes to by the fee's terms, by its key."""
    divided = fees.divide_credits(
        money.contributors, crediting.credits, terms_of(attribution.terms, attribution.split)
    )
    return {one.credit.key: one for one in divided}


def terms_of(terms: Mapping[str, Any] | None, split: Mapping[str, Any]) -> fees.Terms:
    """The terms that a receipt's fee was divided by; plain ones where it names none."""
    if terms is not None:
        return fees.from_json(terms)
    parts = tuple(Part(kind, points) for kind, points in split["parts"].items())
    return fees.Terms.of_split(Split(split["version"], parts))


def owner_parts(attribution: Attribution) -> list[dict[str, Any]]:
    """Who got what of the owner's part; nobody, where nothing was held or nobody owns it."""
    if attribution.terms is None:
        return []
    terms = fees.from_json(attribution.terms)
    part = terms.split.amounts(attribution.fee)["model_owner"]
    if terms.parents:
        parts = fees.divide_among_parents(part, terms)
        return [
            {**line, "parent": str(one.model_id)}
            for one in terms.parents
            for line in _owner_parts(parts[one.model_id], terms.alone(one), str(one.model_id))
        ]
    if terms.model_owner is None:
        return []
    return _owner_parts(part, terms, str(attribution.model_id))


def _owner_parts(part: int, terms: fees.Terms, model: str) -> list[dict[str, Any]]:
    amounts = fees.divide_owner_part(part, terms)
    found = [
        _part("owner", str(terms.model_owner), model, amounts[fees.OWNER]),
        _part("stakers", None, model, amounts[fees.STAKERS]),
    ]
    for royalty in terms.royalties.royalties:
        source = str(royalty.source_id)
        found.append(_part("royalty", str(royalty.owner_id), source, amounts[source]))
    return [one for one in found if one["amount"] != "0"]


def _part(kind: str, owner: str | None, model: str, amount: int) -> dict[str, Any]:
    return {"kind": kind, "owner": owner, "model": model, "amount": str(amount)}


def _credit(one: fees.Credited, names_model: bool) -> dict[str, Any]:
    """Only of several models does a credit say by which of them it is."""
    return {
        **({"model": str(one.credit.model_id)} if names_model else {}),
        "kind": one.credit.kind,
        "owner": str(one.credit.owner_id),
        "datanet": str(one.credit.datanet_id),
        "share_ppb": one.credit.share_ppb,
        "amount": str(one.amount),
        "kept": str(one.kept),
        "royalties": [
            {"datanet": str(royalty.source_id), "amount": str(passed)}
            for royalty, passed in one.royalties
        ],
    }
