"""Checks a receipt without its server: standard library and `cryptography` only.

The file (JSON) holds: `format`; `receipt`, the whole body; `leaf`, what the log carries, with the
SHA-256 of the body; `index`, `size` and `proof` (hex) of the leaf; `checkpoint`, the signed note;
`log_key`, the key that the server says it signs with. In place of a receipt it may hold another
`statement` of the log: the root of an index, or what an audit of one found. It may hold
`consistency`: {`checkpoint`, `proof`}, which shows that an earlier head is a prefix. A receipt that
scores an answer once more names the first one under `rescores`; that one's body and place in the
same log stand in `named`: {`receipt`, `leaf`, `index`, `proof`}, and so do those of the receipt
that a statement audits exactly. Nothing in the file is believed; whoever knows the log's key from
elsewhere hands it in, else the report says that it came from the file.

Where the receipt carries integers, everything is computed again: `receipt.evidence` (`query`, a
vector, and `sums`, id to vector) must give the scores `receipt.influence.groups`; the scores must
give `receipt.shares` (id to parts of 10**9); shares, prices and split must give fee and credits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from attribution.translog import canonical, merkle
from attribution.translog.audited import check_audited, is_audit
from attribution.translog.checkpoint import Checkpoint, VerifierKey, open_checkpoint
from attribution.translog.money import (
    MONEY,
    PARTS,
    check_confidence,
    check_credits,
    check_fee,
    check_merge,
    check_outcome,
    check_owner_parts,
    check_shares,
    difference,
    integer,
    readings,
)

FORMAT = "openledger-receipt/1"

RESCORED, RESCORED_MERGE = "openledger-rescoring/1", "openledger-rescoring-merge/1"
OF_ONE_MODEL = frozenset({"index_root", "influence", "confidence", "shares", "difference"})


class BundleError(ValueError):
    """The file is not a bundle, or a check did not hold."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: `holds` is None where the file has nothing to look at."""

    name: str
    holds: bool | None
    detail: str


@dataclass
class Report:
    checks: list[Check] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return bool(self.checks) and all(check.holds is not False for check in self.checks)

    def run(self, name: str, check: Callable[[], str | None]) -> bool:
        """Note the outcome of `check`: a detail, None for nothing to check, an error for no."""
        try:
            detail = check()
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            ArithmeticError,
            OSError,
        ) as error:
            detail = str(error) if isinstance(error, ValueError) else f"malformed: {error!r}"
            self.checks.append(Check(name, False, detail))
            return False
        if detail is None:
            self.checks.append(Check(name, None, "the file carries none"))
        else:
            self.checks.append(Check(name, True, detail))
        return True


def verify(
    bundle: Any, *, key: VerifierKey | None = None, since: Checkpoint | None = None
) -> Report:
    """Look at everything in a bundle.

    `key` is the log's key as the reader knows it; `since` a head that the reader kept, which the
    bundle's earlier checkpoint must be.
    """
    report = Report()
    if not report.run("schema", lambda: check_schema(bundle)):
        return report
    log_key = key
    if log_key is None and not report.run("log key", lambda: check_own_key(bundle)):
        return report
    log_key = log_key or VerifierKey.parse(bundle["log_key"])
    report.run("receipt", lambda: check_receipt(bundle))
    report.run("inclusion", lambda: check_inclusion(bundle))
    report.run("checkpoint", lambda: check_checkpoint(bundle, log_key))
    report.run("consistency", lambda: check_consistency(bundle, log_key, since))
    receipt = bundle.get("receipt") or {}
    if "receipt" not in bundle and is_audit(bundle.get("statement") or {}):
        report.run("first receipt", lambda: check_named(bundle))
        report.run("audit", lambda: check_of_receipt(bundle))
        return report
    if "rescores" in receipt:
        report.run("first receipt", lambda: check_named(bundle))
        report.run("difference", lambda: check_rescored(bundle))
    report.run("scores", lambda: check_scores(receipt))
    first = (bundle.get("named") or {}).get("receipt") if "rescores" in receipt else None
    report.run("outcome", lambda: check_outcome(receipt, first))
    report.run("merge", lambda: check_merge(receipt))
    report.run("shares", lambda: check_shares(receipt))
    report.run("confidence", lambda: check_confidence(receipt))
    report.run("credits", lambda: check_credits(receipt))
    report.run("fee", lambda: check_fee(receipt))
    report.run("owner", lambda: check_owner_parts(receipt))
    return report


def check_schema(bundle: Any) -> str:
    """Raises BundleError where a member is missing or of another type."""
    if not isinstance(bundle, dict) or bundle.get("format") != FORMAT:
        raise BundleError(f"not a file of format {FORMAT}")
    members: dict[str, type] = {
        "leaf": dict,
        "index": int,
        "size": int,
        "proof": list,
        "checkpoint": str,
        "log_key": str,
    }
    for name, kind in members.items():
        if not isinstance(bundle.get(name), kind) or isinstance(bundle[name], bool):
            raise BundleError(f"{name} is missing or not a {kind.__name__}")
    for name in ("receipt", "statement", "consistency", "named"):
        if not isinstance(bundle.get(name, {}), dict):
            raise BundleError(f"{name} is not an object")
    return FORMAT


def check_own_key(bundle: Mapping[str, Any]) -> str:
    VerifierKey.parse(bundle["log_key"])
    return "taken from the file: compare it with the one that the log publishes"


def check_receipt(bundle: Mapping[str, Any]) -> str | None:
    """That the leaf names the SHA-256 of the receipt's canonical body."""
    named = "receipt" if "receipt" in bundle else "statement"
    if named not in bundle:
        return None
    digest = canonical.sha256(bundle[named])
    if digest != bundle["leaf"].get("sha256"):
        raise BundleError(f"the {named} hashes to {digest}, the leaf says otherwise")
    return f"sha256 {digest}"


def check_inclusion(bundle: Mapping[str, Any]) -> str:
    """That the leaf stands at its index under the root of the checkpoint's text."""
    checkpoint = Checkpoint.parse(bundle["checkpoint"].rpartition("\n\n")[0] + "\n")
    if checkpoint.size != bundle["size"]:
        raise BundleError(f"the checkpoint is of size {checkpoint.size}, not {bundle['size']}")
    _check_place(bundle, checkpoint)
    return f"leaf {bundle['index']} of {bundle['size']}, root {checkpoint.root.hex()}"


def _check_place(place: Mapping[str, Any], head: Checkpoint) -> None:
    """That the place's leaf stands at its index under the head."""
    leaf = merkle.leaf_hash(canonical.dumps(place["leaf"]))
    merkle.verify_inclusion(leaf, place["index"], head.size, _hashes(place["proof"]), head.root)


def check_named(bundle: Mapping[str, Any]) -> str:
    """That the receipt which this one names stands before it in the same log, and is of the same
    answer."""
    named = _named(bundle)
    if "receipt" not in bundle:
        stated = bundle["statement"]["receipt"]
        _check_first(bundle, stated["id"], stated["sha256"])
        return f"leaf {named['index']}, which is the one that is named"
    receipt = bundle["receipt"]
    _check_first(bundle, receipt["rescores"]["receipt"], receipt["rescores"]["sha256"])
    for member in ("completion", "model", "prompt_sha256", "answer_sha256"):
        if named["receipt"].get(member) != receipt[member]:
            raise BundleError(f"the first receipt has another {member}")
    if _merged(named["receipt"]) != _merged(receipt):
        raise BundleError("the first receipt is of other models or weights")
    return f"leaf {named['index']}, of the same question and answer"


def _check_first(bundle: Mapping[str, Any], identifier: str, sha256: str) -> None:
    """That the receipt in `named` has this id and hash, and stands before the bundle's leaf."""
    named = bundle["named"]
    digest = canonical.sha256(named["receipt"])
    told = {"kind": "receipt", "receipt": identifier, "sha256": digest}
    if sha256 != digest or named["leaf"] != told:
        raise BundleError("the first receipt is not the one that is named")
    if not isinstance(named["index"], int) or named["index"] >= bundle["index"]:
        raise BundleError("the first receipt does not stand before this one")
    head = Checkpoint.parse(bundle["checkpoint"].rpartition("\n\n")[0] + "\n")
    _check_place(named, head)


def check_of_receipt(bundle: Mapping[str, Any]) -> str:
    return check_audited(bundle["statement"], _named(bundle)["receipt"])


def _named(bundle: Mapping[str, Any]) -> Mapping[str, Any]:
    if not bundle.get("named"):
        raise BundleError("the file has not the receipt that it names; download it again")
    found: Mapping[str, Any] = bundle["named"]
    return found


def _merged(receipt: Mapping[str, Any]) -> Any:
    """Which models were merged, and how; None where one answered."""
    merge = receipt.get("merge")
    if merge is None:
        return None
    how = [merge[name] for name in ("method", "density_ppm", "seed")]
    named = ("model", "weight_ppm", "share_ppb")
    return how, [[one[name] for name in named] for one in merge["parents"]]


def check_rescored(bundle: Mapping[str, Any]) -> str:
    """That each difference is the one between the shares, and that no money moves by it."""
    receipt, first = bundle["receipt"], _named(bundle)["receipt"]
    # Of several models each says its own, and the whole nothing that reads like that of one.
    if receipt["schema"] != (RESCORED_MERGE if "merge" in receipt else RESCORED):
        raise BundleError("its schema is not the one of a receipt that scores once more")
    if "merge" in receipt and {*receipt} & OF_ONE_MODEL:
        raise BundleError("it says of all models what is each one's own")
    if receipt["moves_money"] is not False or {*receipt} & MONEY:
        raise BundleError("a receipt that scores once more moves no money")
    told = []
    for one, before in zip(readings(receipt), readings(first), strict=True):
        moved = difference(before["shares"], one["shares"])
        if one["difference"] != moved:
            raise BundleError("the difference does not follow from the shares")
        told.append(str(sum(parts for parts in moved.values() if parts > 0)))
    return f"{' and '.join(told)} of {PARTS} parts would go elsewhere; no money moves"


def check_checkpoint(bundle: Mapping[str, Any], key: VerifierKey) -> str:
    checkpoint = open_checkpoint(bundle["checkpoint"], [key], key.name)
    return f"size {checkpoint.size} signed by {key.name}+{key.key_id.hex()}"


def check_consistency(
    bundle: Mapping[str, Any], key: VerifierKey, since: Checkpoint | None
) -> str | None:
    """That the earlier head, where there is one, is a prefix of this one."""
    part = bundle.get("consistency")
    if part is None:
        if since is not None:
            raise BundleError("the file has no proof from the earlier checkpoint")
        return None
    old = open_checkpoint(part["checkpoint"], [key], key.name)
    new = open_checkpoint(bundle["checkpoint"], [key], key.name)
    if since is not None and (since.size, since.root) != (old.size, old.root):
        raise BundleError("the proof starts from another checkpoint than the one that was kept")
    proof = _hashes(part["proof"])
    merkle.verify_consistency(old.size, new.size, proof, old.root, new.root)
    return f"size {old.size} is a prefix of size {new.size}"


def check_scores(receipt: Mapping[str, Any]) -> str | None:
    """That each score is the exact dot product of the answer's vector and the group's sum."""
    if "evidence" not in receipt:
        return None
    query = [integer(value) for value in receipt["evidence"]["query"]]
    groups = receipt["influence"]["groups"]
    sums = receipt["evidence"]["sums"]
    if set(sums) != set(groups):
        raise BundleError("scores and sums name other groups")
    for group, vector in sums.items():
        computed = sum(left * integer(right) for left, right in zip(query, vector, strict=True))
        if computed != integer(groups[group]):
            raise BundleError(f"the score of {group} is {computed}, the receipt says otherwise")
    return f"{len(groups)} scores from vectors of {len(query)} integers"


def _hashes(values: Sequence[Any]) -> list[bytes]:
    if not all(isinstance(value, str) for value in values):
        raise BundleError("a proof is a list of hex strings")
    hashes = [bytes.fromhex(value) for value in values]
    # One spelling only: `fromhex` takes capitals and blanks too.
    if [step.hex() for step in hashes] != list(values):
        raise BundleError("a proof's hashes are in small letters")
    return hashes
