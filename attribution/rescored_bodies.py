"""The public part of a receipt that scores an answer once more.

It names the receipt that paid, by id and hash, has its salts and so its hashes of prompt and
answer, and says by how much each share differs. It states no fee and no credits: it pays nobody.
Of several models that answered as one it says all that of each, under a schema of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from attribution import bodies, merges
from attribution.bodies import Evidence
from attribution.crediting import Crediting
from attribution.models import Receipt, Rescoring
from attribution.translog import canonical
from attribution.translog.money import difference

SCHEMA = "openledger-rescoring/1"
# Of several models that answered as one: nobody shall read it as the scoring of one model.
MERGED_SCHEMA = "openledger-rescoring-merge/1"


def public_part(
    *,
    rescoring: Rescoring,
    receipt: Receipt,
    evidence: Evidence,
    crediting: Crediting,
    private: Mapping[str, Any],
    at: datetime,
) -> dict[str, Any]:
    """What is hashed into the log and shown to everyone."""
    earlier = receipt.public
    merge = merges.of_body(earlier)
    told = {
        "schema": SCHEMA if merge is None else MERGED_SCHEMA,
        "id": str(rescoring.pk),
        "at": at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "completion": str(receipt.completion_id),
        "rescores": {"receipt": str(receipt.pk), "sha256": receipt.body_sha256},
        "asked_as": rescoring.asked_as,
        "model": earlier["model"],
        "prompt_sha256": earlier["prompt_sha256"],
        "answer_sha256": earlier["answer_sha256"],
        "private_sha256": canonical.sha256(bodies.without_salts(private)),
        "outcome": crediting.outcome,
        "moves_money": False,
    }
    if merge is not None:
        return told | {"merge": _merge_part(earlier["merge"], merge, evidence, crediting)}
    return told | {
        "index_root": evidence.index_root,
        "method": dict(evidence.method or {}),
        "influence": bodies.influence_part(evidence),
        "confidence": bodies.confidence_part(evidence.confidence),
        "shares": crediting.shares,
        "difference": difference(earlier["shares"], crediting.shares),
    }


def _merge_part(
    earlier: Mapping[str, Any], merge: Mapping[str, Any], evidence: Evidence, crediting: Crediting
) -> dict[str, Any]:
    """What the first receipt says of how they were merged, and each model read once more."""
    told = merges.merge_part(merge, evidence, crediting)
    for before, now in zip(earlier["parents"], told["parents"], strict=True):
        # The model as the first receipt names it: a verifier compares the two.
        now["model"] = before["model"]
        now["difference"] = difference(before["shares"], now["shares"])
    return told


def texts_fit(receipt: Receipt, prompt: str, answer: str) -> bool:
    """Whether these are the texts that the receipt was written for, by its payer's salts."""
    salts = receipt.private["payer"]
    return (
        bodies.salted_sha256(salts["prompt_salt"], prompt),
        bodies.salted_sha256(salts["answer_salt"], answer),
    ) == (receipt.public["prompt_sha256"], receipt.public["answer_sha256"])
