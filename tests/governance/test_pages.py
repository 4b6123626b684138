"""Governance is public to read; encoding a call writes nothing and refuses what makes no sense."""

from __future__ import annotations

import pytest
from django.urls import reverse

from accounts.models import Wallet
from governance import selectors
from governance.forms import SplitProposalForm
from governance.motions import text_motion
from ledger.chain import artifacts
from tests.chain_fixtures import ALICE, BOB, OPEN
from tests.governance.holders import NEW_SPLIT, Holders
from tests.ledger.books import person

PAGES = ("index", "parameters", "power", "propose_split", "propose_values", "propose_text")
SPLIT_FORM = {
    "platform": "5", "model_owner": "25", "stakers": "20", "contributors": "50",
    "title": "Pay model owners more", "text": "They carry the GPUs.",
}  # fmt: skip


def url(name: str, *arguments: object) -> str:
    return reverse(f"governance:{name}", args=arguments)


@pytest.fixture
def proposal(holders: Holders):
    holders.wrap(ALICE, 100 * OPEN)
    return holders.propose()


@pytest.mark.parametrize("name", PAGES)
def test_a_stranger_reads_every_page(client, holders, name: str) -> None:
    assert client.get(url(name)).status_code == 200


@pytest.mark.parametrize("name", PAGES)
def test_every_page_stands_without_a_chain(client, db, settings, name: str) -> None:
    settings.CHAIN_ENABLED = False
    assert client.get(url(name)).status_code == 200


@pytest.mark.parametrize("name", ["index", "parameters", "power"])
def test_reading_pages_refuse_to_be_written(client, db, name: str) -> None:
    assert client.post(url(name)).status_code == 405


def test_a_stranger_reads_a_proposal_with_its_quorum_and_its_change(client, proposal) -> None:
    page = client.get(url("proposal", proposal.number)).content.decode()
    assert "Pay model owners more" in page
    assert "<strong>4 GOPEN</strong>" in page
    assert "Parameters.setSplit((uint16,uint16,uint16,uint16))" in page
    assert "25 %" in page
    assert client.post(url("proposal", proposal.number)).status_code == 405
    assert client.get(url("live", proposal.number)).status_code == 200
    assert client.post(url("live", proposal.number)).status_code == 405


@pytest.mark.parametrize("name", ["proposal", "live"])
def test_a_proposal_that_is_not_there_is_not_found(client, db, name: str) -> None:
    assert client.get(url(name, "123")).status_code == 404


def test_the_page_offers_what_can_be_done_at_each_step(client, holders, proposal) -> None:
    def page() -> str:
        holders.mirror()
        return client.get(url("proposal", proposal.number)).content.decode()

    assert url("encode_step", proposal.number, "cancel") in page()
    holders.open_vote()
    assert url("encode_vote", proposal.number) in page()
    holders.vote(ALICE, proposal, 1, "fair enough")
    assert "fair enough" in page()
    holders.close_vote()
    assert url("encode_step", proposal.number, "queue") in page()
    holders.later("queue")
    waiting = page()
    assert url("encode_step", proposal.number, "execute") not in waiting
    holders.pass_timelock()
    assert url("encode_step", proposal.number, "execute") in page()
    holders.later("execute")
    done = page()
    assert "this proposal is settled" in done
    parameters = client.get(url("parameters")).content.decode()
    assert url("proposal", proposal.number) in parameters


def test_the_form_begins_with_the_split_in_force_in_plain_digits(client, db) -> None:
    page = client.get(url("propose_split")).content.decode()
    assert 'value="10"' in page
    assert 'value="50"' in page


def test_the_title_is_not_told_twice(proposal) -> None:
    assert proposal.title == "Pay model owners more"
    assert proposal.body == "They carry the GPUs."


def test_a_holder_sees_their_power_at_the_snapshot(client, holders, proposal) -> None:
    user = person("holder")
    Wallet.objects.create(user=user, address=ALICE, is_primary=True)
    client.force_login(user)
    page = client.get(url("proposal", proposal.number)).content.decode()
    assert ALICE in page
    assert ">100<" in page


def test_the_calldata_of_a_vote_is_what_the_contract_takes(client, holders, proposal) -> None:
    answer = client.post(url("encode_vote", proposal.number), {"support": "1", "reason": ""})
    call = answer.json()["call"]
    assert call["to"] == holders.chain.address("OpenGovernor")
    assert (
        call["data"]
        == "0x"
        + artifacts.load("OpenGovernor").encode_call("castVote", int(proposal.number), 1).hex()
    )
    holders.open_vote()
    holders.chain.submit(ALICE, call["to"], bytes.fromhex(call["data"][2:]))
    holders.mirror()
    proposal.refresh_from_db()
    assert proposal.votes_for == 100 * OPEN


@pytest.mark.parametrize("support", ["", "3", "-1", "for"])
def test_a_vote_that_is_none_is_refused(client, proposal, support: str) -> None:
    answer = client.post(url("encode_vote", proposal.number), {"support": support})
    assert answer.status_code == 422
    assert "support" in answer.json()["errors"]


def test_wrapping_is_encoded_with_its_value(client, holders) -> None:
    form = {"wrap-amount": "1.5", "wrap-delegate": BOB}
    call = client.post(url("encode", "wrap"), form).json()["call"]
    assert int(call["value"], 16) == 3 * OPEN // 2
    holders.chain.submit(
        ALICE, call["to"], bytes.fromhex(call["data"][2:]), value=int(call["value"], 16)
    )
    holders.mirror()
    (alice,) = selectors.holdings([ALICE])
    assert (alice.balance, alice.delegate) == (3 * OPEN // 2, BOB)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("wrap", {"wrap-amount": "-1"}),
        ("wrap", {"wrap-amount": "1e5"}),
        ("wrap", {"wrap-amount": "1", "wrap-delegate": "0x1234"}),
        ("unwrap", {"unwrap-amount": "0"}),
        ("delegate", {"delegate-delegate": ""}),
        ("delegate", {"delegate-delegate": "0x" + "00" * 20}),
    ],
)
def test_amounts_and_addresses_that_make_no_sense_are_refused(client, holders, name, form) -> None:
    assert client.post(url("encode", name), form).status_code == 422


def test_encoding_wants_a_post_and_a_known_name(client, holders, proposal) -> None:
    assert client.get(url("encode", "wrap")).status_code == 405
    assert client.post(url("encode", "mint")).status_code == 404
    assert client.get(url("encode_vote", proposal.number)).status_code == 405
    assert client.get(url("encode_step", proposal.number, "queue")).status_code == 405
    assert client.post(f"/governance/proposals/{proposal.number}/rob/").status_code == 404


def test_without_a_chain_nothing_is_encoded(client, db, settings) -> None:
    settings.CHAIN_ENABLED = False
    answer = client.post(url("encode", "wrap"), {"wrap-amount": "1"})
    assert answer.status_code == 409
    page = client.post(url("propose_split"), SPLIT_FORM)
    assert page.status_code == 422
    assert "has no chain" in page.content.decode()


def test_encoding_needs_the_forms_token(holders) -> None:
    from django.test import Client

    answer = Client(enforce_csrf_checks=True).post(url("encode", "wrap"), {"wrap-amount": "1"})
    assert answer.status_code == 403


def test_a_split_is_proposed_by_what_the_page_encodes(client, holders) -> None:
    holders.wrap(ALICE, 10 * OPEN)
    answer = client.post(url("propose_split"), SPLIT_FORM)
    assert answer.status_code == 200
    call = answer.context["call"].transaction
    holders.chain.submit(ALICE, call["to"], bytes.fromhex(call["data"][2:]))
    holders.mirror()
    found = selectors.proposals().get()
    assert found.title == "Pay model owners more"
    assert found.kind == "SPLIT"
    assert selectors.proposed_split(found) == NEW_SPLIT


def test_a_text_is_proposed_and_its_action_changes_nothing(client, holders) -> None:
    holders.wrap(ALICE, 10 * OPEN)
    form = {"title": "Be kind", "text": "<script>alert(1)</script> & so on"}
    call = client.post(url("propose_text"), form).context["call"].transaction
    holders.chain.submit(ALICE, call["to"], bytes.fromhex(call["data"][2:]))
    holders.mirror()
    found = selectors.proposals().get()
    assert found.kind == "TEXT"
    (action,) = selectors.actions_of(found)
    assert action.is_text_only
    page = client.get(url("proposal", found.number)).content.decode()
    assert "<script>alert(1)" not in page


def test_a_text_that_was_accepted_can_be_executed(holders) -> None:
    holders.wrap(ALICE, 10 * OPEN)
    motion = text_motion(holders.chain.deployment, "# Be kind\n\nAlways.")
    proposal = holders.propose(motion)
    holders.open_vote()
    holders.vote(ALICE, proposal, 1)
    holders.close_vote()
    holders.later("queue", motion=motion)
    holders.pass_timelock()
    holders.later("execute", motion=motion)
    holders.mirror()
    proposal.refresh_from_db()
    assert selectors.standing(proposal).state == "EXECUTED"
    assert selectors.current_split().version == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"platform": "6"}, "split_not_whole"),
        ({"platform": "10", "model_owner": "20"}, "unchanged"),
    ],
)
def test_a_split_that_is_no_whole_or_no_change_is_refused(db, change, code: str) -> None:
    form = SplitProposalForm({**SPLIT_FORM, **change})
    assert not form.is_valid()
    assert form.errors.as_data()["__all__"][0].code == code


@pytest.mark.parametrize("value", ["-1", "101", "5.001", "five", ""])
def test_a_part_that_is_no_percentage_is_refused_at_its_field(client, db, value: str) -> None:
    answer = client.post(url("propose_split"), {**SPLIT_FORM, "platform": value})
    assert answer.status_code == 422
    assert "platform" in answer.context["form"].errors
