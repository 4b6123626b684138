"""Governed numbers: a default until the holders set one, in force once the block is final."""

from __future__ import annotations

import pytest
from django.urls import reverse
from django.utils import timezone

from governance import selectors
from governance.forms import ValuesProposalForm, field_name
from governance.models import ParameterVersion, Proposal
from governance.motions import Motion, values_motion
from governance.registry import GOVERNED, Governed, Unit
from governance.services import projection
from ledger.governed import governed as governed_by_ledger
from tests.chain_fixtures import ALICE, OPEN
from tests.governance.holders import Holders

TITLE = {"title": "Other royalties", "text": "Ancestors earn more."}
URL = reverse("governance:propose_values")


def motion_of(holders: Holders, **values: int) -> Motion:
    now = selectors.current_parameters().values
    changes = {key: (now.get(key), value) for key, value in keyed(values).items()}
    return values_motion(holders.chain.deployment, changes, f"# Set {sorted(values)}")


def keyed(values: dict[str, int]) -> dict[str, int]:
    return {name.replace("__", "."): value for name, value in values.items()}


def execute(holders: Holders, motion: Motion) -> Proposal:
    proposal = holders.propose(motion)
    holders.open_vote()
    holders.vote(ALICE, proposal, 1)
    holders.close_vote()
    holders.later("queue", motion=motion)
    holders.pass_timelock()
    holders.later("execute", motion=motion)
    return proposal


def test_a_value_has_its_declared_default_until_it_is_set(db, settings) -> None:
    settings.CHAIN_ENABLED = False
    for key, declared in GOVERNED.items():
        assert selectors.governed(key) == declared.default == governed_by_ledger(key)
    with pytest.raises(KeyError):
        selectors.governed("royalty.nothing")


def test_a_proposal_sets_values_once_its_block_is_final(client, holders: Holders) -> None:
    holders.wrap(ALICE, 100 * OPEN)
    before = selectors.current_parameters()
    execute(holders, motion_of(holders, royalty__datanet_bps=0, royalty__depth=2))

    holders.worker.index()
    projection.mirror(at=timezone.now())
    assert selectors.governed("royalty.depth") == 5

    holders.mirror()
    assert (selectors.governed("royalty.datanet_bps"), selectors.governed("royalty.depth")) == (
        0,
        2,
    )
    assert selectors.governed("royalty.model_bps") == GOVERNED["royalty.model_bps"].default
    # Whoever fixed a version earlier keeps its values, and the split is in every version.
    assert selectors.governed("royalty.depth", before.version) == 5
    assert selectors.current_split().parts == before.split.parts
    version = ParameterVersion.objects.get(version=before.version + 1)
    assert version.changed == [
        {"key": "royalty.datanet_bps", "previous": "0"},
        {"key": "royalty.depth", "previous": "0"},
    ]
    page = client.get(reverse("governance:parameters")).content.decode()
    assert f"version {version.version}" in page
    assert "default" in page
    told = client.get("/api/v1/governance/parameters/").json()["values"]
    assert {one["key"]: one["value"] for one in told}["royalty.depth"] == "2"


def test_a_proposal_of_values_is_shown_decoded(client, holders: Holders) -> None:
    holders.wrap(ALICE, 100 * OPEN)
    proposal = holders.propose(motion_of(holders, royalty__depth=3, slash__biased_bps=1_250))
    assert proposal.kind == Proposal.Kind.VALUE
    page = client.get(reverse("governance:proposal", args=[proposal.number])).content.decode()
    for told in ("royalty.depth", "slash.biased_bps", "Slash for biased records", "12.5 %"):
        assert told in page


def test_a_value_past_its_bounds_counts_as_the_nearest_bound(client, holders: Holders) -> None:
    holders.wrap(ALICE, 100 * OPEN)
    motion = motion_of(holders, royalty__datanet_bps=9_999)
    proposal = execute(holders, motion)
    holders.mirror()
    assert selectors.current_parameters().values["royalty.datanet_bps"] == 9_999
    assert selectors.governed("royalty.datanet_bps") == GOVERNED["royalty.datanet_bps"].high
    page = client.get(reverse("governance:proposal", args=[proposal.number])).content.decode()
    assert "counts as 50 %" in page


def test_a_person_encodes_a_change_in_the_browser(client, holders: Holders) -> None:
    holders.wrap(ALICE, 100 * OPEN)
    answer = client.post(URL, TITLE | {"royalty__datanet_bps": "12.5", "slash__bond": "0"})
    assert answer.status_code == 200
    call = answer.context["call"]
    assert ("Datanet royalty", "10 % to 12.5 %") in call.facts
    holders.chain.client.call(
        call.transaction["to"], bytes.fromhex(call.transaction["data"][2:]), sender=ALICE
    )
    form = ValuesProposalForm(TITLE | {"royalty__datanet_bps": "12.5", "slash__bond": "0"})
    assert form.is_valid()
    assert form.changes == {"royalty.datanet_bps": (None, 1_250), "slash.bond": (None, 0)}
    execute(holders, values_motion(holders.chain.deployment, form.changes, "# By the form"))
    holders.mirror()
    assert selectors.governed("royalty.datanet_bps") == 1_250
    assert selectors.governed("slash.bond") == 0


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ({"royalty__datanet_bps": "50.01"}, "It may be 0 % to 50 %."),
        ({"royalty__datanet_bps": "-1"}, "It may be 0 % to 50 %."),
        ({"royalty__depth": "1.5"}, "no more than 0 decimal places"),
        ({"slash__bond": "1e999"}, "digits"),
        ({"royalty__depth": "NaN"}, "Enter a number"),
        ({"royalty__datanet_bps": "10"}, "change one at least"),
        ({}, "change one at least"),
    ],
)
def test_what_no_contract_should_hold_is_refused(client, holders, typed, told) -> None:
    answer = client.post(URL, TITLE | typed)
    assert answer.status_code == 422
    assert answer.context["call"] is None
    assert told in answer.content.decode()


def test_a_declaration_that_makes_no_sense_is_refused() -> None:
    def declare(**changes) -> Governed:
        values = {
            "key": "royalty.x", "label": "X", "default": 1, "unit": Unit.COUNT, "low": 0,
            "high": 2, "explains": "",
        }  # fmt: skip
        return Governed(**values | changes)

    assert declare().word == b"royalty.x".ljust(32, b"\0")
    for wrong in ({"key": "k" * 33}, {"key": "split.platform"}, {"default": 3}, {"high": 2**256}):
        with pytest.raises(ValueError):
            declare(**wrong)
    assert all(field_name(key).isidentifier() for key in GOVERNED)
