"""Checks a receipt against log, index and ledger, trusting none of what was written beside it.

The first part is the offline verifier's; what follows needs this server's store and books: the
influences are computed again from the index's published integers and the answer's sketch, the
shares from the influences, the credits from the shares, and the wei from the ledger's postings.
"""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import UUID

from attribution import bodies, crediting, rescored_bodies, selectors
from attribution.bodies import SCHEMAS
from attribution.influence.recompute import differences
from attribution.models import ExactAudit, Receipt, Rescoring
from attribution.translog import canonical
from attribution.translog.checkpoint import VerifierKey
from attribution.translog.verify import BundleError, Report, verify
from attribution.verified_scores import check_scores, refuse
from ledger.fees import Terms, divide_credits
from ledger.models import Account, Entry, Posting
from ledger.splits import Part, Split


def verify_receipt(
    receipt: Receipt | Rescoring | ExactAudit, *, key: VerifierKey | None = None
) -> Report:
    """Look at everything. `key` is the log's key as the reader knows it."""
    bundle = selectors.bundle_of(receipt)
    if bundle is None:
        report = Report()
        report.run("log", _waiting)
    else:
        report = verify(bundle, key=key)
    if isinstance(receipt, ExactAudit):
        report.run("public part", lambda: _check_audited(receipt))
        return report
    if isinstance(receipt, Rescoring):
        report.run("public part", lambda: _check_rescored(receipt))
        check_scores(report, receipt)
        return report
    report.run("public part", lambda: _check_public(receipt))
    check_scores(report, receipt)
    report.run("records shown", lambda: _check_records_shown(receipt))
    report.run("passages", lambda: _check_passages(receipt))
    report.run("rows", lambda: _check_credits(receipt))
    report.run("captured", lambda: _check_fee(receipt))
    report.run("settled", lambda: _check_settlement(receipt))
    return report


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
    expected = rescored_bodies.MERGED_SCHEMA if "merge" in public else rescored_bodies.SCHEMA
    if public.get("schema") != expected:
        raise BundleError(f"not a receipt of schema {expected}")
    if canonical.sha256(public) != rescoring.body_sha256:
        raise BundleError("the body was changed after it was written")
    merge = public.get("merge")
    computed = crediting.of_merge(merge["parents"]) if merge else crediting.of_body(public)
    if public["outcome"] != computed.outcome:
        raise BundleError(f"the outcome is {computed.outcome}")
    stated = (public["id"], public["rescores"]["receipt"], public.get("index_root", ""))
    if stated != (str(rescoring.pk), str(rescoring.receipt_id), rescoring.index_root):
        raise BundleError("the row and the body differ")
    return f"sha256 {rescoring.body_sha256}"


def _check_audited(audit: ExactAudit) -> str:
    """That the row says what the hashed body says."""
    if canonical.sha256(audit.public) != audit.body_sha256:
        raise BundleError("the body was changed after it was written")
    if (audit.public["id"], audit.public["receipt"]["id"]) != (
        str(audit.pk),
        str(audit.receipt_id),
    ):
        raise BundleError("the row and the body differ")
    return f"sha256 {audit.body_sha256}"


def _check_records_shown(receipt: Receipt) -> str | None:
    """That the page shows the records and scores of the hashed private part."""
    if not receipt.private:
        return None
    stated = {line["record"]: int(line["influence"]) for line in receipt.private["records"]}
    shown = {
        str(record): influence
        for record, influence in receipt.record_influences.values_list("record_id", "influence")
    }
    refuse(differences(shown, stated, "score on the page"))
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
    if "merge" in public:
        computed = crediting.of_merge(public["merge"]["parents"])
    else:
        model_id = UUID(public["model"]["id"]) if public["model"] else None
        computed = crediting.reward(crediting.of_body(public), public.get("retrieval"), model_id)
    if computed.outcome != public["outcome"]:
        raise BundleError(f"the outcome is {computed.outcome}")
    divided = divide_credits(int(public["contributors_amount"]), computed.credits, _terms(receipt))
    expected = Counter(
        (
            str(one.credit.model_id) if "merge" in public else None,
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
            str(row.model_id) if row.model_id else None,
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
    has_model = public["model"] is not None or "merge" in public
    if waiting != (amounts["contributors"] if has_model else 0):
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
    posted: Counter[tuple[str | None, str]] = Counter()
    for row in Posting.objects.filter(entry=entry, account__kind__in=kinds).select_related(
        "account"
    ):
        is_person = row.account.kind == Account.Kind.EARNINGS
        posted[str(row.account.owner_id) if is_person else None, str(row.model_id)] += row.amount
    # By sums: several models may pass on to the same ancestor, which is one posting.
    stated: Counter[tuple[str | None, str]] = Counter()
    for one in receipt.public["owner_parts"]:
        stated[one["owner"], one["model"]] += int(one["amount"])
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
    paid: Counter[tuple[str, str, str]] = Counter()
    for row in postings:
        if row.account.kind in kinds:
            kind = kinds[Account.Kind(row.account.kind)]
            paid[kind, str(row.account.owner_id), str(row.datanet_id)] += row.amount
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


def _credit_key(one: dict[str, Any]) -> tuple[str | None, str, str, str, int, str, str]:
    kept = one.get("kept", one["amount"])
    named = one["kind"], one["owner"], one["datanet"]
    return one.get("model"), *named, one["share_ppb"], one["amount"], kept


def _terms(receipt: Receipt) -> Terms:
    return bodies.terms_of(receipt.public.get("terms"), receipt.public["split"])
