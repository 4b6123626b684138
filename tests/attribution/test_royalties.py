"""Royalties of an answer: paid by the terms of its hold, stated in its receipt, computed again."""

import json
from uuid import UUID

import pytest
from django.contrib.auth.models import AnonymousUser
from django.urls import reverse

from accounts.templatetags.money import open_short
from attribution.models import Receipt
from attribution.selectors import bundle_of, view_of
from attribution.services.log import sequence
from attribution.translog.verify import verify
from attribution.verification import verify_receipt
from ledger.fees import Terms
from ledger.models import Account, Hold, Posting
from ledger.royalties import Passing, Royalty
from tests.attribution.test_browser_verifier import changed, judge
from tests.attribution.test_verify_command import failures, overwrite
from tests.attribution.world import NOON, SPLIT
from tests.ledger.books import balance_of

pytestmark = pytest.mark.django_db
PARENT_MODEL, PARENT_NET, GRAND_NET = (UUID(int=n) for n in (101, 102, 103))


@pytest.fixture
def terms(indexed) -> Terms:
    """A model tuned from the stranger's, on a Datanet that was derived from another's child."""
    nets = (Royalty(PARENT_NET, PARENT_NET, 9), Royalty(GRAND_NET, GRAND_NET, 1))
    return Terms(
        SPLIT,
        indexed.builder.pk,
        model_stakers_bps=3_333,
        royalties=Passing(7, (Royalty(indexed.stranger.pk, PARENT_MODEL, 1),)),
        datanets=((indexed.datanet.pk, Passing(100, nets)),),
    )


@pytest.fixture
def receipt(indexed, terms) -> Receipt:
    made = indexed.receipt(terms=terms)
    sequence(at=NOON)
    return made


def test_ancestors_are_paid_to_the_wei(indexed, receipt) -> None:
    parts = SPLIT.amounts(receipt.fee)
    to_parent = balance_of("EARNINGS", indexed.stranger.pk)
    stakers = balance_of("MODEL_STAKES", indexed.model.pk)
    owner = balance_of("EARNINGS", indexed.builder.pk)
    assert to_parent + stakers + owner == parts["model_owner"]
    assert abs(7 * to_parent - parts["model_owner"]) < 7
    nets = [balance_of("TREASURY", net) for net in (PARENT_NET, GRAND_NET)]
    people = [balance_of("EARNINGS", user.pk) for user in (indexed.alice, indexed.bob)]
    assert sum(nets) + sum(people) == parts["contributors"] == receipt.amount
    assert abs(10 * sum(nets) - parts["contributors"]) < 40
    assert balance_of(Account.Kind.SUSPENSE, receipt.completion_id) == 0
    for share in receipt.shares.all():
        assert share.kept == balance_of("EARNINGS", share.contributor_id)


def test_receipt_and_panel_show_each_royalty_with_its_entry(indexed, receipt, client) -> None:
    to_parent = balance_of("EARNINGS", indexed.stranger.pk)
    nets = [balance_of("TREASURY", net) for net in (PARENT_NET, GRAND_NET)]
    capture = Hold.objects.get(cause_id=receipt.completion_id).closed_by_id
    view = view_of(receipt, AnonymousUser())
    assert [(one.kind, one.amount) for one in view.passed_on] == [
        ("model", to_parent), ("datanet", nets[0]), ("datanet", nets[1]),
    ]  # fmt: skip
    urls = [reverse("ledger:entry", args=[pk]) for pk in (capture, receipt.entry_id)]
    assert [one.entry_url for one in view.passed_on] == [urls[0], urls[1], urls[1]]
    assert (
        sum(part.amount for part in view.owner_parts) + to_parent
        == (SPLIT.amounts(receipt.fee)["model_owner"])
    )
    panel = reverse("attribution:panel", args=[receipt.completion_id])
    for url in (receipt.get_absolute_url(), panel):
        page = client.get(url).content.decode()
        assert "Royalties to ancestors" in page
        assert page.count(f'<a href="{urls[1]}">{open_short(nets[0])}</a>') == 1
        assert str(PARENT_MODEL) in page


def test_an_ancestors_owner_finds_royalties_apart_from_their_own_models(
    indexed, receipt, client
) -> None:
    client.force_login(indexed.stranger)
    page = client.get(reverse("ledger:earnings"))
    (bar,) = page.context["groups"]["role"]
    assert (bar.key, bar.amount) == ("royalty", balance_of("EARNINGS", indexed.stranger.pk))
    assert ">royalty</span>" in page.content.decode()
    url = reverse("ledger:earnings_entries")
    assert len(client.get(f"{url}?{bar.query}").context["rows"]) == 1
    assert client.get(f"{url}?role=owner").context["rows"] == []
    (told,) = client.get("/api/v1/earnings/entries/?role=royalty").json()["results"]
    assert (told["role"], told["model_id"]) == ("royalty", str(PARENT_MODEL))
    client.force_login(indexed.builder)
    assert [bar.key for bar in client.get(url).context["groups"]["role"]] == ["owner"]
    client.force_login(indexed.alice)
    assert [bar.key for bar in client.get(url).context["groups"]["role"]] == ["records"]


def test_a_receipt_of_before_royalties_still_shows(indexed, receipt, client) -> None:
    old = {k: v for k, v in receipt.public.items() if k not in ("credits", "owner_parts", "terms")}
    receipt.public = old
    view = view_of(receipt, AnonymousUser())
    assert (view.passed_on, view.owner_parts) == ([], [])


def test_the_verifiers_compute_the_royalties_again(receipt) -> None:
    report = verify_receipt(receipt)
    assert report.holds, report
    named = {check.name: check for check in verify(bundle_of(receipt)).checks}
    assert named["owner"].holds
    assert named["credits"].holds
    assert judge(bundle_of(receipt)) == [set()]


def test_the_pages_own_verifier_finds_a_changed_royalty(receipt) -> None:
    def less_kept(found):
        found["receipt"]["credits"][0]["kept"] = "1"

    def other_owner_part(found):
        found["receipt"]["owner_parts"][0]["amount"] = "1"

    def more_than_all(found):
        found["receipt"]["terms"]["royalties"]["whole"] = "0"

    bundle = bundle_of(receipt)
    wrong = [changed(bundle, one) for one in (less_kept, other_owner_part, more_than_all)]
    assert all("Royalties" in found for found in judge(*wrong))


def test_a_royalty_that_was_posted_otherwise_is_found(indexed, receipt) -> None:
    fee = Posting.objects.get(model_id=PARENT_MODEL)
    overwrite("ledger_posting", fee.pk, "model_id", indexed.model.pk)
    assert failures(receipt.pk) == {"captured"}
    overwrite("ledger_posting", fee.pk, "model_id", PARENT_MODEL)
    credit = Posting.objects.filter(account__owner_id=GRAND_NET).first()
    overwrite("ledger_posting", credit.pk, "amount", credit.amount + 1)
    assert failures(receipt.pk) == {"settled"}


def test_a_row_that_hides_what_was_passed_on_is_found(receipt) -> None:
    overwrite("attribution_contributorshare", receipt.shares.first().pk, "passed_on", 0)
    assert failures(receipt.pk) == {"rows"}


def test_a_receipt_of_before_there_were_royalties_stays_valid(indexed) -> None:
    """What /1 left out is left out; its numbers, leaf and postings stand as they were written."""
    receipt = indexed.receipt()
    body = receipt.public | {"schema": "openledger-attribution/1"}
    del body["terms"], body["owner_parts"]
    body["credits"] = [
        {name: value for name, value in one.items() if name not in ("kept", "royalties")}
        for one in body["credits"]
    ]
    overwrite("attribution_receipt", receipt.pk, "public", json.dumps(body))
    receipt.refresh_from_db()
    checks = {check.name: check.holds for check in verify_receipt(receipt).checks}
    # The body is another one than was hashed; everything about its money holds.
    assert {name for name, holds in checks.items() if holds is False} == {"receipt", "public part"}
    assert checks["credits"]
    assert checks["fee"]
    assert checks["rows"]
    assert checks["settled"]
    assert checks["owner"] is None


def test_an_answer_without_tokens_passes_on_from_the_treasury(indexed, terms) -> None:
    receipt = indexed.receipt(answer="", terms=terms)
    sequence(at=NOON)
    assert verify_receipt(receipt).holds
    share = receipt.shares.get()
    assert share.kind == "TREASURY"
    assert share.kept == balance_of("TREASURY", indexed.datanet.pk)
    assert share.passed_on == balance_of("TREASURY", PARENT_NET) + balance_of("TREASURY", GRAND_NET)
    assert share.passed_on > 0


def test_terms_that_name_nobody_new_leave_everything_as_it_was(indexed) -> None:
    receipt = indexed.receipt(terms=Terms.of_split(SPLIT, indexed.builder.pk))
    assert receipt.public["owner_parts"] == [
        {
            "kind": "owner",
            "owner": str(indexed.builder.pk),
            "model": str(indexed.model.pk),
            "amount": str(SPLIT.amounts(receipt.fee)["model_owner"]),
        }
    ]
    assert all(share.passed_on == 0 for share in receipt.shares.all())
