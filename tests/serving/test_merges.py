"""Adapters that answer as one: priced, held, answered, charged, and paid through to each parent."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from attribution import graph
from attribution.models import Receipt
from attribution.reconciliation import check_tree
from attribution.selectors import bundle_of, private_of, view_of
from attribution.services import totals
from attribution.translog.__main__ import main as offline
from attribution.translog.verify import verify
from ledger.models import Account, Hold
from ledger.reconciliation import check_ledger
from ledger.services.refunds import refund_fee
from ledger.splits import divide
from modelfactory.models import Model
from serving import merges, workers
from serving.models import Completion, Deployment
from serving.services.completions import quote
from tests.attribution.test_browser_verifier import judge
from tests.ledger.books import balance_of
from tests.modelfactory.world import person
from tests.serving.blends import Two, receipt_of

pytestmark = pytest.mark.django_db


def test_a_merge_is_charged_and_pays_each_parent_through_to_its_contributors(
    two, client, settings, tmp_path, capsys
) -> None:
    made = two.answered([("one", 0.7), ("two", -0.3)])
    assert (made.state, made.failure_reason) == ("SUCCEEDED", "")
    # Weights of 1 together: the highest price of the two, of which less was written than held.
    assert made.input_price == 3 * 10**12
    assert made.fee == made.prompt_tokens * 3 * 10**12 + made.completion_tokens * 6 * 10**12

    assert balance_of(Account.Kind.USER, two.world.payer.pk) == 10**18 - made.fee

    receipt = receipt_of(made)
    stated = receipt.public["merge"]["parents"]
    assert [(one["weight_ppm"], one["share_ppb"]) for one in stated] == [
        (700_000, 700_000_000),
        (-300_000, 300_000_000),
    ]
    assert [one["model"]["id"] for one in stated] == [str(two.first.pk), str(two.second.pk)]
    assert all(one["shares"] or one["outcome"] != "CREDITED" for one in stated)
    _pays_each_owner(two, made, receipt)
    _pays_contributors(two, made, receipt)
    _holds(receipt, two.world.payer, tmp_path, settings.DATA_DIR, capsys)
    assert [one.name for one in [*check_ledger(), *check_tree()] if not one.holds] == []
    _page_names_the_parents(two, receipt, client)
    _each_model_leads_by_its_own(two, receipt, client)
    _a_draft_has_no_name_for_others(two, receipt, client)
    _a_refund_takes_every_part_back(two, made)


def _pays_each_owner(two: Two, made: Completion, receipt: Receipt) -> None:
    parts = {one["kind"]: one["basis_points"] for one in made.split["parts"]}
    whole = divide(made.fee, list(parts.items()))["model_owner"]
    each = divide(whole, [(str(two.first.pk), 700_000_000), (str(two.second.pk), 300_000_000)])
    assert balance_of(Account.Kind.EARNINGS, two.world.builder.pk) == each[str(two.first.pk)]
    staked = divide(each[str(two.second.pk)], [("owner", 7_500), ("stakers", 2_500)])
    assert balance_of(Account.Kind.EARNINGS, two.other.pk) == staked["owner"]
    assert balance_of(Account.Kind.MODEL_STAKES, two.second.pk) == staked["stakers"]
    stated = sum(int(one["amount"]) for one in receipt.public["owner_parts"])
    assert stated == whole


def _pays_contributors(two: Two, made: Completion, receipt: Receipt) -> None:
    credits = receipt.public["credits"]
    assert sum(one["share_ppb"] for one in credits) == 10**9
    by_model: Counter[str] = Counter()
    for one in credits:
        by_model[one["model"]] += one["share_ppb"]
    # Rounded to a part of 10**9 for each credit.
    assert abs(by_model[str(two.first.pk)] - 700_000_000) <= len(credits)
    assert sum(int(one["amount"]) for one in credits) == receipt.amount > 0
    assert balance_of(Account.Kind.SUSPENSE, made.pk) == 0
    assert (
        receipt.amount
        == divide(made.fee, [(one["kind"], one["basis_points"]) for one in made.split["parts"]])[
            "contributors"
        ]
    )
    assert sum(one.share_ppb for one in receipt.shares.all()) == 10**9
    assert {one.model_id for one in receipt.shares.all()} == {two.first.pk, two.second.pk}


def _holds(receipt: Receipt, payer, folder, data, capsys) -> None:
    out = io.StringIO()
    call_command("verify", str(receipt.pk), stdout=out)
    assert out.getvalue().endswith("holds.\n")
    bundle = bundle_of(receipt)
    report = verify(json.loads(json.dumps(bundle)))
    assert report.holds
    assert {"merge", "shares", "credits", "owner"} <= {
        one.name for one in report.checks if one.holds
    }
    changed = []
    for change in (_heavier, _swapped, _to_another_model):
        wrong = json.loads(json.dumps(bundle))
        change(wrong["receipt"])
        failed = {one.name for one in verify(wrong).checks if one.holds is False}
        assert failed - {"receipt"}, change.__name__
        changed.append(wrong)
    _follows_from_the_indexes(receipt, payer, folder, data, capsys)
    true, *others = judge(bundle, *changed)
    assert true == set()
    assert all(one - {"Receipt"} for one in others)


def _follows_from_the_indexes(receipt: Receipt, payer, folder, data, capsys) -> None:
    """Offline, from the files of both indexes side by side as a browser saves them."""
    mine = folder / "mine"
    mine.mkdir()
    (mine / "receipt.json").write_text(json.dumps(bundle_of(receipt)))
    (mine / "private.json").write_text(json.dumps(private_of(receipt, payer)))
    for parent in receipt.public["merge"]["parents"]:
        root = parent["index_root"]
        for file in (data / "cache" / "indexes" / root).iterdir():
            shutil.copy(file, mine / f"{root[:12]}-{file.name}")
    asked = ["verify", str(mine / "receipt.json"), "--private", str(mine / "private.json")]
    asked += ["--index", str(mine), "--format", "json"]
    assert offline(asked) == 0
    checks = {one["name"]: one["holds"] for one in json.loads(capsys.readouterr().out)["checks"]}
    for name in ("index", "influences", "records", "certainty"):
        assert checks[f"{name} 1"] is not False
        assert checks[f"{name} 2"] is not False
    assert checks["influences 2"]
    last = mine / f"{root[:12]}-sums.npy"
    last.write_bytes(last.read_bytes()[:-1] + b"\x01")
    assert offline(asked) == 1
    failed = {one["name"] for one in json.loads(capsys.readouterr().out)["checks"]
              if one["holds"] is False}  # fmt: skip
    assert "index 2" in failed
    assert not any(name.endswith(" 1") for name in failed)


def _each_model_leads_by_its_own(two: Two, receipt: Receipt, client) -> None:
    """On leaderboards, before and after they are added up, in the graph and over time."""
    later = timezone.now() + timedelta(hours=1)
    its_own = {
        model.pk: sum(one.amount - one.passed_on for one in receipt.shares.filter(model=model))
        for model in (two.first, two.second)
    }
    assert sum(its_own.values()) == receipt.amount
    for period in ("all", "day"):
        rows = graph.leaders("models", two.other, at=later, period=period)
        assert {row["pk"]: row["amount"] for row in rows} == its_own
        assert {row["name"] for row in rows} == {two.first.slug, two.second.slug}
    totals.add_up(at=later)
    rows = list(graph.leaders("models", two.other, at=later))
    assert {row["pk"]: row["amount"] for row in rows} == its_own
    assert graph.timeline(at=later, model=two.second.pk).amount == its_own[two.second.pk]
    lines = client.get("/api/v1/graph/", {"model": str(two.second.pk)}).json()["results"]
    assert {(one["model"], one["model_id"]) for one in lines} == {
        (two.second.slug, str(two.second.pk))
    }
    assert sum(int(one["kept"]) for one in lines) == its_own[two.second.pk]
    page = client.get("/graph/").content.decode()
    assert two.first.get_absolute_url() in page
    assert two.second.get_absolute_url() in page


def _a_draft_has_no_name_for_others(two: Two, receipt: Receipt, client) -> None:
    Model.objects.filter(pk=two.second.pk).update(state="DRAFT")
    said = client.get(receipt.get_absolute_url()).content.decode()
    assert two.first.get_absolute_url() in said
    assert two.second.slug not in said
    (told,) = client.get("/api/v1/receipts/").json()["results"]
    assert [one["model"] for one in told["parents"]] == [two.first.slug, None]
    assert client.get("/api/v1/receipts/", {"model": two.second.slug}).json()["results"] == []


def _a_refund_takes_every_part_back(two: Two, made: Completion) -> None:
    hold = Hold.objects.get(pk=made.hold_id)
    staff = person("keeper", is_staff=True)
    refund = refund_fee(hold=hold, reason="Blended wrong.", acting_user=staff, at=timezone.now())
    assert (refund.amount, refund.borne) == (made.fee, 0)
    assert balance_of(Account.Kind.USER, two.world.payer.pk) == 10**18
    for owner in (two.world.builder, two.other, two.carol, two.world.alice):
        assert balance_of(Account.Kind.EARNINGS, owner.pk) == 0
    assert balance_of(Account.Kind.MODEL_STAKES, two.second.pk) == 0
    assert [one.name for one in check_ledger() if not one.holds] == []


def _page_names_the_parents(two: Two, receipt: Receipt, client) -> None:
    said = client.get(receipt.get_absolute_url()).content.decode()
    assert two.first.get_absolute_url() in said
    assert two.second.get_absolute_url() in said
    assert "-0.3" in said
    view = view_of(receipt, two.world.payer)
    assert [one.parent.share_ppb for one in view.parents] == [700_000_000, 300_000_000]
    # Bars are as long as the strongest of the same model has it.
    strongest = [max(int(one["influence"]) for one in parent["records"])
                 for parent in receipt.private["parents"] if parent["records"]]  # fmt: skip
    longest = [line.influence.influence for line in view.records if line.width == 100]
    assert sorted(longest) == sorted(strongest)
    listed = client.get("/receipts/", {"model": two.second.slug}).content.decode()
    assert receipt.get_absolute_url() in listed
    (told,) = client.get("/api/v1/receipts/", {"model": two.first.slug}).json()["results"]
    assert [one["model"] for one in told["parents"]] == [two.first.slug, two.second.slug]


def _heavier(receipt) -> None:
    receipt["merge"]["parents"][0]["weight_ppm"] += 1_000


def _swapped(receipt) -> None:
    one, two = receipt["merge"]["parents"]
    one["share_ppb"], two["share_ppb"] = two["share_ppb"], one["share_ppb"]


def _to_another_model(receipt) -> None:
    first, last = receipt["credits"][0], receipt["credits"][-1]
    first["model"], last["model"] = last["model"], first["model"]


def test_a_merge_answers_otherwise_than_its_parents_and_the_same_each_time(two) -> None:
    asked = {"adapters": [("one", 0.6), ("two", 0.4)]}
    merged = two.answered(**asked)
    assert merged.answer_ids == two.answered(**asked).answer_ids
    alone = [two.answered([(name, 1)]).answer_ids for name in ("one", "two")]
    plain = two.answered([("one", 0.6), ("two", 0.4)], merge={"method": "ties", "density": 0.2})
    assert merged.answer_ids not in alone
    assert plain.merge["density_ppm"] == 200_000


@pytest.mark.parametrize(
    ("weights", "times"),
    [((0.5, 0.5), 1), ((0.1, 0.1), 1), ((1, 1), 2), ((1, 10), 11), ((-1.5, 0.000001), 1.500001)],
)
def test_no_parent_is_sold_below_its_own_price(two, weights, times) -> None:
    body = two.body([("one", weights[0]), ("two", weights[1])])
    merged = merges.resolve(
        wish=body.merge_wish(), deployment=two.base, user=two.world.payer, at=timezone.now()
    )
    assert merged.input_price == round(3 * 10**12 * times)
    for deployment, weight in merged.parents:
        share = {model.pk: part for model, part in merged.shares()}[deployment.model_id]
        its_own = deployment.output_price * min(1, abs(weight) / 10**6)
        assert merged.output_price * share / 10**9 >= its_own * (1 - 1e-6)
    offer = quote(deployment=two.base, question=body.question(), max_tokens=6, merge=merged)
    assert offer.highest_fee == (
        len(offer.prompt.ids) * merged.input_price + 6 * merged.output_price
    )


def test_terms_are_those_of_the_hold_whatever_changes_before_the_answer(two) -> None:
    made = two.ask([("one", 0.5), ("two", 0.5)])
    two.second.stakers_bps = 0
    two.second.save(update_fields=["stakers_bps"])
    Deployment.objects.filter(pk=two.one.pk).update(input_price=1, output_price=1)
    workers.run_completion(made.pk)
    made.refresh_from_db()
    assert made.fee == made.prompt_tokens * 3 * 10**12 + made.completion_tokens * 6 * 10**12
    assert balance_of(Account.Kind.MODEL_STAKES, two.second.pk) > 0


def test_what_cannot_be_merged_is_refused_by_the_field_that_is_to_blame(two) -> None:
    ok = [("one", 0.5), ("two", 0.5)]
    assert two.refused([("one", 0.5), ("nobody", 0.5)])[0] == "adapters.[1].model"
    assert two.refused([("one", 0.5), ("tiny", 0.5)])[0] == "adapters.[1].model"
    assert two.refused([("one", 0.5), ("one", 0.5)])[0] == "adapters.[1].model"
    assert two.refused(ok, model="one") == (
        "model",
        "one is an adapter itself. Send its base, tiny, as the model, and every adapter in "
        "adapters.",
    )
    assert two.refused([]) == ("adapters", "Name 1 to 8 adapters, not 0.")
    assert two.refused([(str(n), 1) for n in range(9)])[0] == "adapters"
    for weight in (0, 0.0000001, 10.5, -11):
        assert two.refused([("one", weight)])[0] == "adapters.[0].weight"
    for density in (0, -1, 1.01):
        how = {"method": "ties", "density": density}
        assert two.refused(ok, merge=how)[0] == "merge.density"
    assert two.refused(ok, merge={"method": "slerp"})[0] == "merge.method"
    assert two.refused(ok, merge={"seed": -1})[0] == "merge.seed"
    assert two.refused(None, merge={})[0] == "adapters"


def test_adapters_that_do_not_fit_are_refused_before_a_wei_is_held(two) -> None:
    version = two.second.run.run_versions.get().version
    flat = two.model("flat", two.other, version, r=4)
    two.deploy(flat, "flat", 1)
    assert two.refused([("one", 1), ("flat", 1)])[0] == "merge.method"
    twin = two.model("twin", two.other, version)
    two.deploy(twin, "twin", 1)
    assert two.refused([("two", 1), ("twin", 1)]) == (
        "adapters.[1].model",
        "twin and gates are the same adapter. Give one of them the weight of both.",
    )
    dora = two.model("dora", two.other, version, use_dora=True)
    two.deploy(dora, "dora", 1)
    assert two.refused([("one", 1), ("dora", 1)])[0] == "adapters.[1].model"
    large = two.model("large", two.other, version, r=255)
    two.deploy(large, "large", 1)
    assert two.refused([("one", 1), ("large", 1)], merge={"method": "cat"})[0] == "adapters"
    other_base = type(two.world.base).objects.create(
        slug="elsewhere", name="Elsewhere", state="READY", origin="x", context_length=128
    )
    strange = two.model("strange", two.other, version)
    Model.objects.filter(pk=strange.pk).update(base_model=other_base)
    made = two.deploy(strange, "strange", 1)
    Deployment.objects.filter(pk=made.pk).update(base_model=other_base)
    assert two.refused([("one", 1), ("strange", 1)]) == (
        "adapters.[1].model",
        "strange is an adapter of Elsewhere, not of Tiny. Merge adapters of one base.",
    )


def test_another_persons_draft_is_as_unknown_as_a_name_that_is_not_there(two) -> None:
    Model.objects.filter(pk=two.second.pk).update(state="DRAFT")
    draft = two.refused([("one", 0.5), ("two", 0.5)])
    missing = two.refused([("one", 0.5), ("tw0", 0.5)])
    assert draft[0] == missing[0] == "adapters.[1].model"
    assert draft[1].replace("'two'", "'tw0'") == missing[1]


def test_a_base_that_servers_elsewhere_answer_for_merges_nothing(two, monkeypatch) -> None:
    monkeypatch.setattr(merges, "queue_of", lambda base, at: "external")
    assert two.refused([("one", 0.5), ("two", 0.5)])[0] == "adapters"


def test_a_parent_that_is_gone_when_it_is_answered_costs_nothing(two) -> None:
    made = two.ask([("one", 0.5), ("two", 0.5)])
    Model.objects.filter(pk=two.second.pk).update(adapter_sha256="0" * 64)
    workers.run_completion(made.pk)
    made.refresh_from_db()
    assert (made.state, made.fee) == ("FAILED", 0)
    assert balance_of(Account.Kind.USER, two.world.payer.pk) == 10**18
