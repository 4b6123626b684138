"""A slash of a stake in a pool by pages and API: proposed with evidence, appealed, carried out."""

import hashlib
import json

import pytest
from django.core.exceptions import PermissionDenied
from django.utils import timezone

from accounts.models import Notification
from ledger.models import Intent, PoolSlash, SlashFile, StakePosition
from ledger.services import pools
from ledger.services.poolslashes import (
    SlashRefused,
    execute_due_pool_slashes,
    execute_pool_slash,
    propose_pool_slash,
    slash_terms,
    write_appeal,
)
from tests.chain_fixtures import (
    ALICE,
    BOB,
    GUARDIAN,
    OPEN,
    chain,
    chain_settings,
    deployed_chain,
    worker,
)
from tests.ledger.books import link, person
from tests.ledger.test_stake_pools import FLEXIBLE, LOCKED, same_as_the_contract, stake

__all__ = ["chain", "chain_settings", "deployed_chain", "worker"]
pytestmark = pytest.mark.django_db(transaction=True)
POOL = f"0x{FLEXIBLE.hex()}"
PAGE = f"/staking/{POOL}/slash/"
API = "/api/v1/staking/slashes/"


@pytest.fixture(autouse=True)
def quiet(settings):
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}


@pytest.fixture
def staff():
    user = person("staff")
    user.is_staff = True
    user.save()
    return user


@pytest.fixture
def judge():
    user = person("judge")
    user.is_staff = True
    user.save()
    return user


@pytest.fixture
def staker(worker):
    user = person("staker")
    link(user, ALICE)
    stake(worker.chain, ALICE, FLEXIBLE, 8 * OPEN)
    mirrored(worker)
    return user


def mirrored(worker):
    worker.index()
    while pools.mirror():
        pass


def propose(by, **changes):
    values = {"pool_id": POOL, "address": ALICE, "share": 1_000, "words": "It voted twice."}
    return propose_pool_slash(**values | changes, acting_user=by, at=timezone.now())


def settle(worker):
    """Send what is asked for and read it back."""
    worker.run(rounds=4)
    mirrored(worker)


def post(client, url, **body):
    return client.post(url, body, content_type="application/json")


def test_it_is_proposed_with_evidence_and_taken_when_nobody_appeals(client, worker, staker, staff):
    client.force_login(staff)
    page = client.get(PAGE).content.decode()
    assert "At most 30 %" in page
    answer = client.post(PAGE, {"address": ALICE, "share": "12.5", "words": "It voted twice."})
    assert answer.status_code == 302
    assert "on its way to the chain" in client.get(f"/staking/{POOL}/").content.decode()
    with pytest.raises(SlashRefused, match="on its way"):
        propose(staff)
    settle(worker)

    slash = PoolSlash.objects.get()
    assert (slash.state, slash.share, slash.amount) == ("PROPOSED", 1_250, OPEN)
    told = Notification.objects.get(user=staker)
    assert "1 OPEN of your stake are to be slashed" in told.title
    assert "It voted twice." in told.body
    client.logout()
    assert "It voted twice." in client.get(told.url).content.decode()
    file = client.get(f"/staking/slashes/files/{slash.evidence[2:]}.json").content
    assert "0x" + hashlib.sha256(file).hexdigest() == slash.evidence
    assert json.loads(file)["share_bps"] == 1_250
    assert client.get(f"{API}{slash.number}/").json()["evidence_file"]["author"] == "staff"
    assert execute_due_pool_slashes(at=timezone.now()) == 0

    worker.chain.warp(slash_terms().window)
    mirrored(worker)
    assert [execute_due_pool_slashes(at=timezone.now()) for _ in range(2)] == [1, 0]
    settle(worker)

    assert PoolSlash.objects.get().state == "EXECUTED"
    assert StakePosition.objects.get().staked == 7 * OPEN
    same_as_the_contract(worker.chain)
    pools.rebuild()
    assert Notification.objects.filter(user=staker).count() == 2


def test_an_appeal_keeps_its_words_and_another_than_the_proposer_upholds_it(
    client, worker, staker, staff, judge
):
    propose(staff)
    settle(worker)
    slash = PoolSlash.objects.get()
    url = f"{API}{slash.number}/appeal/"
    assert post(client, url, words="No.").status_code in (401, 403)
    client.force_login(person("stranger"))
    assert post(client, url, words="No.").status_code == 403
    client.force_login(staker)
    assert "data-appeal" in client.get(slash.get_absolute_url()).content.decode()
    assert post(client, url, words=" ").status_code == 400
    assert post(client, url, words="half \ud800").status_code == 400
    answer = post(client, url, words="It was another's vote.")
    assert answer.status_code == 201
    call = answer.json()["call"]
    data, value = bytes.fromhex(call["data"][2:]), int(call["value"], 16)
    assert value == slash.bond == slash_terms().bond
    worker.chain.submit(ALICE, call["to"], data, value=value)
    worker.chain.mine()
    mirrored(worker)

    slash.refresh_from_db()
    assert (slash.state, slash.statement) == ("APPEALED", answer.json()["sha256"])
    assert Notification.objects.filter(user=judge, kind="ledger.slash_appealed").exists()
    with pytest.raises(SlashRefused):
        write_appeal(slash=slash, words="Again", acting_user=staker, at=timezone.now())
    worker.chain.warp(2 * slash_terms().window)
    mirrored(worker)
    assert execute_due_pool_slashes(at=timezone.now()) == 0
    execute = f"{API}{slash.number}/execute/"
    client.force_login(staff)
    assert post(client, execute).status_code == 403
    client.force_login(judge)
    assert "Uphold it" in client.get(slash.get_absolute_url()).content.decode()
    intents = {post(client, execute).json()["intent_id"] for _ in range(2)}
    assert len(intents) == 1
    settle(worker)
    slash.refresh_from_db()
    assert slash.state == "EXECUTED"
    same_as_the_contract(worker.chain)
    page = client.get(slash.get_absolute_url()).content.decode()
    assert "It was another&#x27;s vote." in page
    assert post(client, execute).status_code == 409


def test_the_guardian_calls_one_off_with_the_call_of_the_page(client, worker, staker, staff):
    propose(staff)
    settle(worker)
    slash = PoolSlash.objects.get()
    url = f"{API}{slash.number}/call/"
    assert client.get(url, {"action": "drain"}).status_code == 400
    answer = client.get(url, {"action": "cancel"}).json()
    assert answer["refusals"]["0x05721887"] == "The time to appeal is not over yet."
    worker.chain.submit(GUARDIAN, answer["call"]["to"], bytes.fromhex(answer["call"]["data"][2:]))
    worker.chain.mine()
    mirrored(worker)
    assert PoolSlash.objects.get().state == "CANCELED"
    told = Notification.objects.filter(user=staker).values_list("title", flat=True)
    assert any("called off" in title for title in told)


def test_what_cannot_be_slashed_is_refused_and_nothing_is_written(client, worker, staker, staff):
    url = f"/staking/{POOL}/slash/"
    assert client.get(url).status_code == 302
    body = {"pool_id": POOL, "address": ALICE, "share": 1, "words": "x"}
    assert post(client, API, **body).status_code in (401, 403)
    client.force_login(person("stranger"))
    assert (client.get(url).status_code, client.post(url).status_code) == (403, 403)
    assert post(client, API, **body).status_code == 403
    client.force_login(staff)
    wrong = [
        {"share": 0}, {"share": 3_001}, {"share": 1.5}, {"share": "x"}, {"words": " "},
        {"address": BOB}, {"address": "0x12"}, {"pool_id": "0x12"},
        {"pool_id": f"0x{LOCKED.hex()}"},
    ]  # fmt: skip
    answers = [post(client, API, **body | change).status_code for change in wrong]
    assert answers == [400, 409, 400, 400, 400, 409, 409, 400, 409]
    assert client.post(url, {"address": ALICE, "share": "30.01", "words": "x"}).status_code == 422
    assert client.put(API).status_code == 405
    assert client.get(f"{API}77/").status_code == 404
    assert client.get("/staking/slashes/77/").status_code == 404
    assert client.post("/staking/slashes/77/execute/").status_code == 404
    assert client.get("/staking/slashes/77/execute/").status_code == 405
    assert client.get(f"/staking/slashes/files/{'0' * 64}.json").status_code == 404
    link(staff, BOB)
    stake(worker.chain, BOB, FLEXIBLE, OPEN)
    mirrored(worker)
    with pytest.raises(PermissionDenied, match="their own"):
        propose(staff, address=BOB)
    assert not SlashFile.objects.exists()
    assert not Intent.objects.filter(kind="SLASH").exists()


def test_it_is_carried_out_no_sooner_than_the_chain_allows(worker, staker, staff, judge):
    propose(staff)
    settle(worker)
    slash = PoolSlash.objects.get()
    with pytest.raises(SlashRefused, match="may be executed from"):
        execute_pool_slash(slash=slash, acting_user=judge, at=timezone.now())
    with pytest.raises(SlashRefused, match="is open"):
        propose(staff)
    worker.chain.send(GUARDIAN, "StakePools", "setPaused", True)
    worker.chain.warp(slash_terms().window)
    mirrored(worker)
    with pytest.raises(SlashRefused, match="paused"):
        execute_pool_slash(slash=slash, acting_user=judge, at=timezone.now())
