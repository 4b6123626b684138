"""Checks a receipt against log, index and ledger, trusting none of what was written beside it.

The first part is the offline verifier's; what follows needs this server's store and books: the
influences are computed again from the index's published integers and the answer's sketch, the
shares from the influences, the credits from the shares, and the wei from the ledger's postings.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any
from uuid import UUID

from accounts.blobs import read_bytes
from attribution import bodies, crediting, index_files, rescored_bodies, selectors
from attribution.bodies import SCHEMAS
from attribution.influence.errors import InfluenceError
from attribution.influence.index import Index
from attribution.influence.recompute import differences, recompute
from attribution.models import Receipt, Rescoring
from attribution.translog import canonical
from attribution.translog.checkpoint import VerifierKey
from attribution.translog.verify import BundleError, Report, verify
from ledger.fees import Terms, divide_credits
from ledger.models import Account, Entry, Posting
from ledger.splits import Part, Split


def verify_receipt(receipt: Receipt | Rescoring, *, key: VerifierKey | None = None) -> Report:
    """Look at everything. `key` is the log's key as the reader knows it."""
    bundle = selectors.bundle_of(receipt)
    if bundle is None:
        report = Report()
        report.run("log", _waiting)
    else:
        report = verify(bundle, key=key)
    if isinstance(receipt, Rescoring):
        report.run("public part", lambda: _check_rescored(receipt))
        _check_scores(report, receipt)
        return report
    report.run("public part", lambda: _check_public(receipt))
    _check_scores(report, receipt)
    report.run("records shown", lambda: _check_records_shown(receipt))
    report.run("passages", lambda: _check_passages(receipt))
    report.run("rows", lambda: _check_credits(receipt))
    report.run("captured", lambda: _check_fee(receipt))
    report.run("settled", lambda: _check_settlement(receipt))
    return report


def _check_scores(report: Report, receipt: Receipt | Rescoring) -> None:
    report.run("private part", lambda: _check_private(receipt))
    report.run("index", lambda: _check_index(receipt))
    report.run("influences", lambda: _check_influences(receipt))
    report.run("records", lambda: _check_records(receipt))


def _waiting() -> str:
    raise BundleError("the receipt waits for its place in the log; try again in a few seconds")


def _check_public(receipt: Receipt) -> str:
    """That the columns that pages read say what the hashed body says."""
    public = receipt.public
    if public.get("schema") not in SCHEMAS:
        raise BundleError(f"not a receipt of schema {' or '.join(sorted(SCHEMAS))}")
    if canonical.sha256(public) != receipt.body_sha256:
        raise BundleError("the body was changed after it was written")
    stated = (public["id"], public["completion"], public["outcome"], public["price"]["fee"])
    if stated != (str(receipt.pk), str(receipt.completion_id), receipt.outcome, str(receipt.fee)):
        raise BundleError("the row and the body differ")
    return f"sha256 {receipt.body_sha256}"


def _check_rescored(rescoring: Rescoring) -> str:
    """That the row says what the hashed body says."""
    public = rescoring.public
    if public.get("schema") != rescored_bodies.SCHEMA:
        raise BundleError(f"not a receipt of schema {rescored_bodies.SCHEMA}")
    if canonical.sha256(public) != rescoring.body_sha256:
        raise BundleError("the body was changed after it was written")
    stated = (public["id"], public["rescores"]["receipt"], public["index_root"])
    if stated != (str(rescoring.pk), str(rescoring.receipt_id), rescoring.index_root):
        raise BundleError("the row and the body differ")
    return f"sha256 {rescoring.body_sha256}"


def _check_private(receipt: Receipt | Rescoring) -> str | None:
    """That the private part and the sketch are the ones that were hashed; None where erased."""
    if not receipt.private:
        return None
    private = bodies.without_salts(receipt.private)
    if canonical.sha256(private) != receipt.public["private_sha256"]:
        raise BundleError("it is not the one whose hash is in the public part")
    salts = receipt.private.get("payer")
    if salts is not None and canonical.sha256(salts) != private["payer_sha256"]:
        raise BundleError("the salts are not the ones that were hashed")
    sketch = receipt.private["sketch"]
    if sketch and hashlib.sha256(_sketch(receipt)).hexdigest() != sketch["sha256"]:
        raise BundleError("the answer's sketch is not the one that was hashed")
    return f"sha256 {receipt.public['private_sha256']}"


def _check_index(receipt: Receipt | Rescoring) -> str | None:
    """That the index in the store is the one that the receipt names, down to every record."""
    index = _index(receipt)
    if index is None:
        return None
    root = index.committed_root()
    if root != receipt.public["index_root"]:
        raise BundleError(f"its files lead to root {root}")
    if index.manifest.header["adapter_sha256"] != receipt.public["model"]["adapter_sha256"]:
        raise BundleError("it was built for another adapter")
    return f"{len(index.records)} records, root {root}"


def _check_influences(receipt: Receipt | Rescoring) -> str | None:
    index = _index(receipt)
    if index is None or not (receipt.private and receipt.private["sketch"]):
        return None
    found = recompute(index, _sketch(receipt), bits=receipt.private["sketch"]["bits"])
    claimed = _whole(receipt.public["influence"]["groups"])
    _refuse(differences(claimed, found.groups, "influence"))
    _refuse(differences(receipt.public["shares"], found.shares, "share"))
    if receipt.public.get("confidence") != bodies.confidence_part(found.confidence):
        raise BundleError("the confidence is not the one that the index's null gives")
    if dict(receipt.public["influence"]["records"]) != index.manifest.counts:
        raise BundleError("the numbers of records are not those of the index")
    return f"{len(found.groups)} influences and {len(found.shares)} shares, to the last unit"


def _check_records(receipt: Receipt | Rescoring) -> str | None:
    index = _index(receipt)
    if index is None or not (receipt.private and receipt.private["sketch"]):
        return None
    found = recompute(index, _sketch(receipt), bits=receipt.private["sketch"]["bits"]).records
    stated = {line["record"]: int(line["influence"]) for line in receipt.private["records"]}
    _refuse(differences(stated, {name: found[name] for name in stated if name in found}, "score"))
    best = sorted((-score, name) for name, score in found.items() if score > 0)
    if [name for _, name in best[: len(stated)]] != list(stated):
        raise BundleError("they are not the records with the highest scores")
    return f"{len(stated)} top records of {len(found)}"


def _check_records_shown(receipt: Receipt) -> str | None:
    """That the page shows the records and scores of the hashed private part."""
    if not receipt.private:
        return None
    stated = {line["record"]: int(line["influence"]) for line in receipt.private["records"]}
    shown = {
        str(record): influence
        for record, influence in receipt.record_influences.values_list("record_id", "influence")
    }
    _refuse(differences(shown, stated, "score on the page"))
    return f"{len(shown)} records" if shown else None


def _check_passages(receipt: Receipt) -> str | None:
    """That the page shows only passages and records that the hashed private part names."""
    stated = receipt.private.get("passages") if receipt.private else None
    if stated is None:
        return None
    places = {
        (one["start"], one["end"]): {line["record"] for line in one["records"]} for one in stated
    }
    shown = list(receipt.passages.prefetch_related("records"))
    for row in shown:
        named = {str(one.record_id) for one in row.records.all()}
        if not named <= places.get((row.start, row.end), set()):
            raise BundleError(f"characters {row.start} to {row.end} stand elsewhere than it says")
    return f"{len(shown)} of {len(stated)} passages are shown"


def _check_credits(receipt: Receipt) -> str | None:
    """That the credits follow from the influences, and the rows from the credits."""
    public = receipt.public
    computed = crediting.credit(
        influences=_whole(public["influence"]["groups"]),
        counts=public["influence"]["records"],
        model_id=UUID(public["model"]["id"]) if public["model"] else None,
        has_answer=public["outcome"] != crediting.NO_ANSWER,
        is_clear=(public.get("confidence") or {}).get("clear", True),
    )
    model_id = UUID(public["model"]["id"]) if public["model"] else None
    computed = crediting.reward(computed, public.get("retrieval"), model_id)
    if computed.outcome != public["outcome"]:
        raise BundleError(f"the outcome is {computed.outcome}")
    divided = divide_credits(int(public["contributors_amount"]), computed.credits, _terms(receipt))
    expected = Counter(
        (
            one.credit.kind,
            str(one.credit.owner_id),
            str(one.credit.datanet_id),
            one.credit.share_ppb,
            str(one.amount),
            str(one.kept),
        )
        for one in divided
    )
    if expected != Counter(_credit_key(one) for one in public["credits"]):
        raise BundleError("they do not follow from the influences")
    rows = Counter(
        (
            row.kind.lower(),
            str(row.contributor_id or row.datanet_id),
            str(row.datanet_id),
            row.share_ppb,
            str(row.amount),
            str(row.kept),
        )
        for row in receipt.shares.all()
    )
    if rows != expected:
        raise BundleError("the page shows other credits than the body")
    return f"{len(expected)} credits" if expected else None


def _check_fee(receipt: Receipt) -> str | None:
    """That the captured fee was split as the receipt says, to the wei."""
    public = receipt.public
    entry = Entry.objects.filter(
        kind=Entry.Kind.CAPTURE, cause_kind="completion", cause_id=receipt.completion_id
    ).first()
    if entry is None:
        if int(public["contributors_amount"]):
            raise BundleError("there is no entry of the fee")
        return None
    split = Split(
        public["split"]["version"],
        tuple(Part(kind, points) for kind, points in public["split"]["parts"].items()),
    )
    if entry.parameter_version != split.version:
        raise BundleError(f"the entry was split by version {entry.parameter_version}")
    amounts = split.amounts(receipt.fee)
    waiting = _posted(entry, Account.Kind.SUSPENSE)
    if waiting != (amounts["contributors"] if public["model"] else 0):
        raise BundleError(f"{waiting} wei went into suspense")
    stakers = _posted(entry, Account.Kind.STAKERS)
    if stakers != amounts["stakers"]:
        raise BundleError(f"{stakers} wei went to the stakers")
    _check_owner_parts(receipt, entry)
    rest = receipt.fee - waiting - stakers
    given = sum(
        _posted(entry, kind)
        for kind in (Account.Kind.PLATFORM, Account.Kind.EARNINGS, Account.Kind.MODEL_STAKES)
    )
    if given != rest:
        raise BundleError(f"{given} wei went to platform, owner and ancestors, not {rest}")
    return f"{receipt.fee} wei split by version {split.version}"


def _check_owner_parts(receipt: Receipt, entry: Entry) -> None:
    """That owner, stakers and ancestors were posted what the receipt says, and nobody else."""
    if "owner_parts" not in receipt.public:
        return
    kinds = (Account.Kind.EARNINGS, Account.Kind.MODEL_STAKES)
    posted = Counter(
        (
            str(row.account.owner_id) if row.account.kind == Account.Kind.EARNINGS else None,
            str(row.model_id),
            str(row.amount),
        )
        for row in Posting.objects.filter(entry=entry, account__kind__in=kinds).select_related(
            "account"
        )
    )
    stated = Counter(
        (one["owner"], one["model"], one["amount"]) for one in receipt.public["owner_parts"]
    )
    if posted != stated:
        raise BundleError("owner, stakers or ancestors were posted other amounts")


def _check_settlement(receipt: Receipt) -> str | None:
    """That the ledger paid exactly the credits' amounts out of suspense."""
    public = receipt.public
    if public["settlement"] is None:
        if int(public["contributors_amount"]):
            raise BundleError("there is no entry of the settlement")
        return None
    postings = Posting.objects.filter(entry_id=public["settlement"]).select_related("account")
    taken = sum(row.amount for row in postings if row.account.kind == Account.Kind.SUSPENSE)
    if -taken != int(public["contributors_amount"]):
        raise BundleError(f"{-taken} wei left suspense")
    kinds = {Account.Kind.EARNINGS: "contributor", Account.Kind.TREASURY: "treasury"}
    paid = Counter(
        {
            (
                kinds[Account.Kind(row.account.kind)],
                str(row.account.owner_id),
                str(row.datanet_id),
            ): (row.amount)
            for row in postings
            if row.account.kind in kinds
        }
    )
    stated: Counter[tuple[str, str, str]] = Counter()
    for one in public["credits"]:
        stated[one["kind"], one["owner"], one["datanet"]] += int(one.get("kept", one["amount"]))
        for royalty in one.get("royalties", ()):
            stated["treasury", royalty["datanet"], one["datanet"]] += int(royalty["amount"])
    stated = +stated
    if paid != stated:
        raise BundleError("the postings are not the credits")
    return f"{-taken} wei in {sum(paid.values())} postings"


def _posted(entry: Entry, kind: str) -> int:
    return sum(
        row.amount
        for row in Posting.objects.filter(entry=entry, account__kind=kind)
        if row.amount > 0
    )


def _credit_key(one: dict[str, Any]) -> tuple[str, str, str, int, str, str]:
    kept = one.get("kept", one["amount"])
    return one["kind"], one["owner"], one["datanet"], one["share_ppb"], one["amount"], kept


def _terms(receipt: Receipt) -> Terms:
    return bodies.terms_of(receipt.public.get("terms"), receipt.public["split"])


def _index(receipt: Receipt | Rescoring) -> Index | None:
    root = receipt.public["index_root"]
    if root is None:
        return None
    row = selectors.index_by_root(root)
    if row is None:
        raise BundleError(f"the index {root} is not here any more")
    try:
        return index_files.open_index(row)
    except InfluenceError as error:
        raise BundleError(str(error)) from error


def _sketch(receipt: Receipt | Rescoring) -> bytes:
    if receipt.sketch_id is None:
        raise BundleError("the answer's sketch is gone")
    return read_bytes(receipt.sketch_id)


def _whole(values: dict[str, str]) -> dict[str, int]:
    return {name: int(value) for name, value in values.items()}


def _refuse(problems: list[str]) -> None:
    if problems:
        raise BundleError(" ".join(problems[:3]))
