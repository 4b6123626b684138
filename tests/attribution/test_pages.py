"""Each address as its people, as a stranger, and with the wrong method."""

import json

import pytest
from django.urls import reverse

from accounts import pages
from accounts.ids import uuid7
from attribution import workers
from attribution.models import Index
from attribution.translog import canonical
from tests.attribution.world import NOON

pytestmark = pytest.mark.django_db


@pytest.fixture
def receipt(indexed):
    return indexed.receipt()


def page(client, name, *args):
    return client.get(reverse(f"attribution:{name}", args=args))


def test_everybody_sees_who_was_credited_but_not_which_records(client, indexed, receipt):
    for user in (None, indexed.stranger):
        client.logout()
        if user:
            client.force_login(user)
        answer = page(client, "receipt", receipt.pk)
        text = answer.content.decode()
        assert answer.status_code == 200
        assert indexed.alice.handle in text
        assert "estimated influence" in text
        assert "caused by" not in text
        assert receipt.record_influences.first().record.excerpt[:40] not in text


@pytest.mark.parametrize("who", ["payer", "alice", "staff"])
def test_the_parties_and_staff_see_the_records(client, indexed, receipt, who):
    client.force_login(getattr(indexed, who))
    text = page(client, "receipt", receipt.pk).content.decode()
    assert f"/records/{receipt.record_influences.first().record_id}" in text
    answer = page(client, "private", receipt.pk)
    assert answer.status_code == 200
    assert len(answer.json()["private"]["records"]) == receipt.record_influences.count()


@pytest.mark.parametrize("who", ["payer", "alice", "staff"])
def test_the_salts_are_for_the_payer_alone(client, indexed, receipt, who):
    """With a salt, guesses at a prompt could be tried against the public hash."""
    client.force_login(getattr(indexed, who))
    payer = receipt.private["payer"]
    salts = {payer["prompt_salt"], payer["answer_salt"]}
    assert len(salts) == 2
    for address in (
        reverse("attribution:private", args=[receipt.pk]),
        reverse("api-receipt-private", args=[receipt.pk]),
        reverse("attribution:receipt", args=[receipt.pk]),
    ):
        answer = client.get(address)
        shown = {salt for salt in salts if salt in answer.content.decode()}
        assert shown == (salts if who == "payer" and "private" in address else set())


def test_who_is_credited_checks_the_private_part_without_salts(client, indexed, receipt):
    client.force_login(indexed.alice)
    private = page(client, "private", receipt.pk).json()["private"]
    assert canonical.sha256(private) == receipt.public["private_sha256"]


def test_a_stranger_gets_no_private_part(client, indexed, receipt):
    assert page(client, "private", receipt.pk).status_code == 404
    client.force_login(indexed.stranger)
    assert page(client, "private", receipt.pk).status_code == 404
    assert client.get(reverse("api-receipt-private", args=[receipt.pk])).status_code == 404


@pytest.mark.parametrize("name", ["receipt", "proof", "private", "panel"])
def test_what_is_not_there_is_not_found(client, indexed, name):
    client.force_login(indexed.staff)
    assert page(client, name, uuid7()).status_code == 404


def test_nothing_can_be_posted(client, indexed, receipt):
    client.force_login(indexed.staff)
    root = Index.objects.get().root
    addresses = [
        reverse("attribution:receipts"),
        reverse("attribution:receipt", args=[receipt.pk]),
        reverse("attribution:panel", args=[receipt.completion_id]),
        reverse("attribution:proof", args=[receipt.pk]),
        reverse("attribution:private", args=[receipt.pk]),
        reverse("attribution:index", args=[root]),
        reverse("attribution:index_file", args=[root, "manifest.json"]),
        reverse("api-receipts"),
        reverse("api-receipt", args=[receipt.pk]),
    ]
    for address in addresses:
        assert client.post(address).status_code == 405, address


def test_the_list_tells_mine_from_all(client, indexed, receipt):
    assert str(receipt.pk) in page(client, "receipts").content.decode()
    address = reverse("attribution:receipts")
    assert str(receipt.pk) not in client.get(address, {"mine": "paid"}).content.decode()
    client.force_login(indexed.payer)
    assert str(receipt.pk) in client.get(address, {"mine": "paid"}).content.decode()
    assert str(receipt.pk) not in client.get(address, {"mine": "earned"}).content.decode()
    client.force_login(indexed.alice)
    assert str(receipt.pk) in client.get(address, {"mine": "earned"}).content.decode()
    assert str(receipt.pk) not in client.get(address, {"model": "other"}).content.decode()


def test_the_panel_waits_then_shows_the_credit(client, indexed, monkeypatch):
    monkeypatch.setitem(pages._builders, "prompt_tokens_of_completion", "/tokens/{}/".format)
    client.force_login(indexed.payer)
    attribution = indexed.ask()
    waiting = page(client, "panel", attribution.completion_id).content.decode()
    assert 'data-state="WAITING"' in waiting
    assert "delay:2s" in waiting
    workers.attribute(attribution.pk)
    done = page(client, "panel", attribution.completion_id).content.decode()
    assert 'data-state="DONE"' in done
    assert "delay:2s" not in done
    assert done.count("hx-get") == 1
    assert indexed.alice.handle in done
    # How sure it is, and below for the payer which tokens of the question mattered.
    assert "deviations above chance" in done
    assert f'hx-get="/tokens/{attribution.completion_id}/"' in done
    client.force_login(indexed.alice)
    assert "hx-get" not in page(client, "panel", attribution.completion_id).content.decode()
    assert "<svg" in done
    assert "/records/" in done


def test_the_panel_of_a_failed_attribution_says_why(client, indexed):
    attribution = indexed.ask("door " * 200)
    workers.attribute(attribution.pk)
    text = page(client, "panel", attribution.completion_id).content.decode()
    assert 'data-state="FAILED"' in text
    assert "more than the model" in text


def test_the_panel_shows_how_far_the_index_is(client, world):
    attribution = world.ask()
    workers.attribute(attribution.pk)
    Index.objects.update(state="BUILDING", done=7, total=23)
    assert "7 of 23 records" in page(client, "panel", attribution.completion_id).content.decode()


def test_the_panel_of_a_base_answer_says_where_the_part_went(client, world):
    receipt = world.receipt(base_only=True)
    text = page(client, "panel", receipt.completion_id).content.decode()
    assert "went to the platform" in text
    assert page(client, "receipt", receipt.pk).status_code == 200


def test_the_proof_is_a_file_that_the_offline_verifier_accepts(client, receipt, tmp_path):
    from attribution.translog.__main__ import main

    answer = page(client, "proof", receipt.pk)
    (tmp_path / "receipt.json").write_bytes(answer.content)
    assert main(["verify", str(tmp_path / "receipt.json")]) == 0
    changed = json.loads(answer.content)
    changed["receipt"]["contributors_amount"] = "1"
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    assert main(["verify", str(tmp_path / "changed.json")]) == 1


def test_a_receipt_that_is_not_in_the_log_yet_asks_for_patience(client, indexed):
    attribution = indexed.ask()
    workers.attribute(attribution.pk)
    answer = page(client, "proof", attribution.receipt.pk)
    assert answer.status_code == 503
    assert answer["Retry-After"] == "2"
    assert page(client, "receipt", attribution.receipt.pk).status_code == 200


def test_the_index_publishes_its_integers(client, indexed, tmp_path):
    from attribution.influence.index import Index as CoreIndex

    row = Index.objects.get()
    assert page(client, "index", row.root).status_code == 200
    for name in [*row.manifest["files"], "manifest.json"]:
        answer = page(client, "index_file", row.root, name)
        assert answer.status_code == 200
        body = answer.getvalue() if answer.streaming else answer.content
        (tmp_path / name).write_bytes(body)
    assert CoreIndex.open(tmp_path).committed_root() == row.root


def test_sketches_of_a_hidden_datanet_are_for_its_people(client, indexed):
    indexed.datanet.state = "DRAFT"
    indexed.datanet.save()
    root = Index.objects.get().root
    client.force_login(indexed.stranger)
    assert page(client, "index_file", root, "codes.npy").status_code == 404
    assert page(client, "index_file", root, "manifest.json").status_code == 200
    client.force_login(indexed.owner)
    assert page(client, "index_file", root, "codes.npy").status_code == 200
    assert page(client, "index_file", root, "settings.py").status_code == 404


def test_a_hidden_record_is_not_shown_to_the_payer(client, indexed, receipt):
    indexed.datanet.state = "DRAFT"
    indexed.datanet.save()
    client.force_login(indexed.payer)
    text = page(client, "receipt", receipt.pk).content.decode()
    assert "not open to you" in text
    assert receipt.record_influences.first().record.excerpt[:40] not in text


@pytest.fixture
def draft(indexed, receipt):
    """The owner asked before anything was published."""
    indexed.model.name, indexed.model.slug = "Secret plan", "builder-secret"
    indexed.datanet.name, indexed.datanet.slug = "Hidden sources", "hidden-sources"
    for one in (indexed.model, indexed.datanet):
        one.state = "DRAFT"
        one.save()
    return receipt


SECRETS = ("Secret plan", "builder-secret", "Hidden sources", "hidden-sources")


@pytest.mark.parametrize("who", ["nobody", "stranger", "payer"])
def test_a_public_receipt_names_no_draft(client, indexed, draft, who):
    if who != "nobody":
        client.force_login(getattr(indexed, who))
    addresses = [
        reverse("attribution:receipts"),
        reverse("attribution:receipt", args=[draft.pk]),
        reverse("attribution:panel", args=[draft.completion_id]),
        reverse("attribution:index", args=[Index.objects.get().root]),
        reverse("api-receipts"),
        reverse("api-receipt", args=[draft.pk]),
    ]
    for address in addresses:
        told = client.get(address).content.decode()
        assert not [name for name in SECRETS if name in told], address
    assert str(indexed.model.pk) in page(client, "receipt", draft.pk).content.decode()
    one = client.get(reverse("api-receipt", args=[draft.pk])).json()
    assert (one["model"], one["shares"][0]["datanet"]) == (None, None)
    found = client.get(reverse("api-receipts"), {"model": "builder-secret"}).json()
    assert found["count"] == 0


def test_its_owner_reads_the_names_of_a_draft(client, indexed, draft):
    client.force_login(indexed.builder)
    assert "Secret plan" in page(client, "receipts").content.decode()
    assert client.get(reverse("api-receipts"), {"model": "builder-secret"}).json()["count"] == 1
    client.force_login(indexed.owner)
    assert "Hidden sources" in page(client, "receipt", draft.pk).content.decode()


def test_the_api_reads_receipts_and_indexes(client, indexed, receipt):
    listed = client.get(reverse("api-receipts"), {"completion": str(receipt.completion_id)}).json()
    assert [row["id"] for row in listed["results"]] == [str(receipt.pk)]
    one = client.get(reverse("api-receipt", args=[receipt.pk])).json()
    assert one["public"]["schema"] == "openledger-attribution/4"
    assert one["amount"] == str(receipt.amount)
    assert one["shares"][0]["contributor"] == indexed.alice.handle
    assert one["log_index"] == 1  # after the root of the index
    assert client.get(reverse("api-receipt-proof", args=[receipt.pk])).json()["index"] == 1
    index = client.get(reverse("api-index", args=["builder-run"])).json()
    assert index["state"] == "READY"
    assert client.get(reverse("api-indexes")).json()["count"] == 1
    assert client.get(reverse("api-receipts"), {"completion": "no-id"}).json()["count"] == 0
    assert receipt.at == NOON or receipt.at
