"""The page's own verifier agrees with ours, and finds what was changed."""

import copy

import pytest

from attribution.selectors import bundle_of
from tests import page_scripts

PROGRAM = "result = []; for (const bundle of given) result.push(await script.verify(bundle));"

pytestmark = pytest.mark.django_db


def judge(*bundles):
    """The names of the checks that fail, for each bundle."""
    found = page_scripts.run("attribution-verify.js", PROGRAM, bundles)
    return [{check["name"] for check in checks if check["holds"] is False} for checks in found]


def changed(bundle, change):
    copied = copy.deepcopy(bundle)
    change(copied)
    return copied


def test_true_receipts_hold_and_changed_ones_do_not(indexed):
    for answer in ("The window 4 is a window.", "A door.", ""):
        indexed.receipt(answer=answer)
    bundle = bundle_of(indexed.receipt())
    base = bundle_of(indexed.receipt(base_only=True))

    def other_share(found):
        shares = found["receipt"]["shares"]
        name = next(iter(shares))
        shares[name] -= 1

    def other_amount(found):
        found["receipt"]["credits"][0]["amount"] = "1"

    def other_place(found):
        found["index"] -= 1

    def other_root(found):
        lines = found["checkpoint"].split("\n")
        lines[2] = "A" * 43 + "="
        found["checkpoint"] = "\n".join(lines)

    def other_verdict(found):
        found["receipt"]["confidence"]["clear"] = False

    def other_fee(found):
        found["receipt"]["price"]["fee"] = "1"

    assert judge(
        bundle,
        base,
        changed(bundle, other_share),
        changed(bundle, other_amount),
        changed(bundle, other_place),
        changed(bundle, other_root),
        changed(bundle, other_fee),
        changed(bundle, other_verdict),
    ) == [
        set(),
        set(),
        {"Receipt", "Shares"},
        {"Receipt", "Amounts", "Royalties"},
        {"Inclusion"},
        {"Inclusion", "Checkpoint"},
        {"Receipt", "Fee", "Royalties"},
        {"Receipt", "Outcome", "Shares"},
    ]


def test_an_answer_that_was_scored_again_is_compared_with_its_first_receipt(indexed, monkeypatch):
    from attribution import rescoring, texts
    from attribution.models import Attribution
    from attribution.services.log import sequence
    from attribution.services.rescorings import request_rescoring
    from tests.attribution.world import NOON

    kept = indexed.ask()
    found = texts.Texts(kept.prompt, kept.answer, kept.prompt_ids, kept.answer_ids)
    Attribution.objects.filter(pk=kept.pk).delete()
    monkeypatch.setattr(texts, "_sources", [lambda completion_id: found])
    receipt = indexed.receipt()
    row = request_rescoring(receipt=receipt, acting_user=indexed.payer, at=NOON)
    rescoring.rescore(row.pk)
    sequence(at=NOON)
    row.refresh_from_db()
    bundle = bundle_of(row)
    group = next(iter(bundle["receipt"]["shares"]))
    assert judge(
        bundle,
        changed(bundle, lambda found: found["receipt"]["difference"].update({group: 1})),
        changed(bundle, lambda found: found["named"]["receipt"]["shares"].clear()),
        changed(bundle, lambda found: found["named"].update(index=found["index"])),
        changed(bundle, lambda found: found["receipt"].update(credits=[])),
    ) == [
        set(),
        {"Receipt", "Difference"},
        {"First receipt", "Difference"},
        {"First receipt"},
        {"Receipt", "Difference"},
    ]
