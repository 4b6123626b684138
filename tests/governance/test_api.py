"""Anybody reads governance by API; nobody writes it."""

from __future__ import annotations

import pytest

from tests.chain_fixtures import ALICE, OPEN
from tests.governance.holders import Holders

ROOT = "/api/v1/governance"


@pytest.fixture
def proposal(holders: Holders):
    holders.wrap(ALICE, 100 * OPEN)
    return holders.propose()


def test_what_is_in_force(client, holders) -> None:
    answer = client.get(f"{ROOT}/parameters/").json()
    assert answer["version"] == 1
    assert {"kind": "contributors", "basis_points": 5000} in answer["split"]
    (version,) = client.get(f"{ROOT}/parameters/versions/").json()["results"]
    assert version["state"] == "IN_FORCE"
    assert version["values"]["split.stakers"] == "2000"


def test_a_proposal_with_amounts_as_strings(client, holders, proposal) -> None:
    holders.open_vote()
    holders.vote(ALICE, proposal, 1)
    holders.mirror()
    answer = client.get(f"{ROOT}/proposals/{proposal.number}/").json()
    assert answer["state"] == "ACTIVE"
    assert answer["quorum"] == str(4 * OPEN)
    assert answer["votes_for"] == str(100 * OPEN)
    assert client.get(f"{ROOT}/proposals/").json()["count"] == 1
    (vote,) = client.get(f"{ROOT}/proposals/{proposal.number}/votes/").json()["results"]
    assert (vote["voter"], vote["support"]) == (ALICE, "For")


def test_the_power_of_an_address(client, holders, proposal) -> None:
    answer = client.get(f"{ROOT}/power/{ALICE}/").json()
    assert (answer["votes"], answer["delegate"]) == (str(100 * OPEN), ALICE)
    assert client.get(f"{ROOT}/power/{ALICE.lower()}/").json() == answer
    assert client.get(f"{ROOT}/power/0x12/").status_code == 400


def test_what_is_not_there_is_not_found(client, db) -> None:
    assert client.get(f"{ROOT}/proposals/7/").status_code == 404
    assert client.get(f"{ROOT}/proposals/7/votes/").status_code == 404


@pytest.mark.parametrize("path", ["parameters/", "parameters/versions/", "proposals/"])
def test_nothing_is_written_by_api(client, holders, path: str) -> None:
    assert client.post(f"{ROOT}/{path}").status_code in (403, 405)
