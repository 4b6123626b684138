"""A Datanet from another one's version: people stay, royalties go up, licences are kept."""

import json
from fractions import Fraction

import pytest
from django.db import connection
from django.db.utils import DatabaseError
from django.urls import reverse

from accounts.blobs import read_bytes
from datanets import licences, selectors
from datanets.errors import DatanetError
from datanets.lineage import ancestry, passings
from datanets.models import Datanet, Version
from datanets.services.checking import known_hashes
from datanets.services.datanets import edit_datanet, take_down_datanet
from datanets.services.derivation import derive_datanet
from datanets.services.moderation import take_down_record
from datanets.services.versions import publish_version
from governance.selectors import Parameters, current_parameters
from tests.modelfactory.world import NOW, add_records, datanet, person, question

pytestmark = pytest.mark.django_db
CARD = {"name": "Warm colours", "summary": "Some of them.", "licence": "CC-BY-4.0"}


@pytest.fixture
def parent() -> Datanet:
    net = datanet(person("owner"))
    add_records(net, person("alice"), [question(n) for n in range(6)])
    publish_version(datanet=net, acting_user=net.owner, at=NOW)
    return net


@pytest.fixture
def deriver():
    return person("deriver")


def first_version(net: Datanet) -> Version:
    return net.versions.get(number=1)


def derive(source: Version, acting_user, **changes) -> Datanet:
    return derive_datanet(version=source, acting_user=acting_user, at=NOW, **CARD | changes)


def publish(net: Datanet) -> Version:
    Datanet.objects.filter(pk=net.pk).update(state="PUBLISHED", published_at=NOW)
    net.refresh_from_db()
    return publish_version(datanet=net, acting_user=net.owner, at=NOW)


def governed(**values: int) -> Parameters:
    now = current_parameters()
    told = {f"royalty.{name}": value for name, value in values.items()}
    return Parameters(now.version, now.split, now.values | told)


def weights(net: Datanet, parameters: Parameters | None = None) -> dict:
    passing = passings([net.pk], parameters or governed()).get(net.pk)
    if passing is None:
        return {}
    return {one.source_id: Fraction(one.weight, passing.whole) for one in passing.royalties}


def test_its_first_version_holds_the_parents_records_with_their_contributors(
    parent, deriver
) -> None:
    child = derive(first_version(parent), deriver)
    own = add_records(child, deriver, [question(n) for n in range(4, 9)])
    version = publish(child)
    rows = list(selectors.version_records(version.pk))
    by_net = {}
    for record, contributor, net, _, _ in rows:
        by_net.setdefault((net, contributor), []).append(record)
    alice = parent.records.first().contributor_id
    assert {key: len(found) for key, found in by_net.items()} == {
        (parent.pk, alice): 6,
        # Numbers 4 and 5 came with the parent: a copy of a text earns nothing.
        (child.pk, deriver.pk): 3,
    }
    assert {own[0].pk, own[1].pk}.isdisjoint(record for record, *_ in rows)
    manifest = json.loads(read_bytes(version.manifest_id))
    source = first_version(parent)
    assert manifest["derived_from"] == {
        "datanet": str(parent.pk), "number": 1, "root": source.root,
        "manifest_sha256": source.manifest_id,
    }  # fmt: skip
    assert "derived_from" not in json.loads(read_bytes(source.manifest_id))


def test_a_copy_of_an_inherited_text_is_no_new_record(parent, deriver) -> None:
    child = derive(first_version(parent), deriver)
    there = parent.records.first()
    held = known_hashes(child)([there.content_hash, "0" * 64])
    assert list(held) == [there.content_hash]
    assert str(there.pk) in held[there.content_hash]


def test_what_was_taken_down_since_does_not_come_along(parent, deriver) -> None:
    child = derive(first_version(parent), deriver)
    add_records(child, deriver, [question(9)])
    version = publish(child)
    staff = person("staff", is_staff=True)
    gone = parent.records.first()
    take_down_record(record=gone, statement="Wrong.", acting_user=staff, at=NOW)
    assert gone.pk not in {record for record, *_ in selectors.version_records(version.pk)}
    assert publish(child).record_count == 6
    take_down_datanet(datanet=parent, statement="All wrong.", acting_user=staff, at=NOW)
    assert len(list(selectors.version_records(version.pk))) == 1
    assert len(selectors.withheld_in(version)) == 6
    assert publish(child).record_count == 1


def test_a_royalty_goes_to_parent_and_grandparent_within_the_depth(parent, deriver) -> None:
    child = derive(first_version(parent), deriver)
    grandchild = derive(publish(child), deriver, name="Warmer")
    tenth = Fraction(1, 10)
    assert weights(parent) == {}
    assert weights(child) == {parent.pk: tenth}
    assert weights(grandchild) == {child.pk: tenth * 9 / 10, parent.pk: tenth / 10}
    assert weights(grandchild, governed(depth=1)) == {child.pk: tenth}
    assert weights(grandchild, governed(datanet_bps=0)) == {}
    assert weights(grandchild, governed(datanet_bps=2_500))[parent.pk] == Fraction(1, 16)
    # An answer may credit people in the child's name, too: its own passing is among them.
    assert set(passings([grandchild.pk], governed())) == {grandchild.pk, child.pk}
    lines = ancestry(grandchild, governed())
    assert [(line.datanet, round(line.percent, 6)) for line in lines] == [(child, 9), (parent, 1)]


def test_a_taken_down_parent_earns_nothing_and_its_own_parent_goes_on_to(parent, deriver) -> None:
    child = derive(first_version(parent), deriver)
    grandchild = derive(publish(child), deriver, name="Warmer")
    staff = person("staff", is_staff=True)
    child.refresh_from_db()
    take_down_datanet(datanet=child, statement="Wrong.", acting_user=staff, at=NOW)
    assert weights(grandchild) == {parent.pk: Fraction(1, 100)}


def test_a_parent_cannot_be_changed_so_nothing_descends_from_itself(parent, deriver) -> None:
    child = derive(first_version(parent), deriver)
    version = publish(child)
    edit_datanet(
        datanet=parent, changes={"derived_from": version}, acting_user=parent.owner, at=NOW
    )
    parent.refresh_from_db()
    assert parent.derived_from_id is None
    with pytest.raises(DatabaseError), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE datanets_datanet SET derived_from_id = %s WHERE id = %s",
            [version.pk, parent.pk],
        )


@pytest.mark.parametrize(
    ("source", "derived", "why"),
    [
        ("CC-BY-SA-4.0", "CC-BY-4.0", "share-alike"),
        ("CC-BY-NC-4.0", "CC-BY-4.0", "commercial"),
        ("CC-BY-4.0", "CC0-1.0", "attribution"),
        ("CC-BY-4.0", "GPL-3.0", "no licence"),
        ("Unknown", "CC-BY-4.0", "does not allow"),
        ("CC-BY-4.0", "CC-BY-SA-4.0", ""),
        ("CC-BY-SA-4.0", "CC-BY-SA-4.0", ""),
        ("CC0-1.0", "MIT", ""),
    ],
)
def test_a_derived_datanet_asks_for_no_less_than_its_source(source, derived, why) -> None:
    said = licences.why_not_derived(source, derived)
    assert (why in said) if why else (said == "")


def test_a_licence_against_derivatives_is_respected(parent, deriver, monkeypatch, client) -> None:
    closed = licences.Licence("CC-BY-4.0", "", "", commercial=True, derivatives=False)
    monkeypatch.setitem(licences.LICENCES, "CC-BY-4.0", closed)
    with pytest.raises(DatanetError, match="does not allow") as refusal:
        derive(first_version(parent), deriver)
    assert refusal.value.code == "LICENCE"
    assert not Datanet.objects.filter(owner=deriver).exists()
    client.force_login(deriver)
    page = client.get(reverse("datanets:derive", args=[parent.slug, 1])).content.decode()
    assert "cannot be derived from" in page


def test_the_licence_stays_within_what_the_source_allows(parent, deriver) -> None:
    child = derive(first_version(parent), deriver)
    with pytest.raises(DatanetError, match="attribution"):
        edit_datanet(datanet=child, changes={"licence": "CC0-1.0"}, acting_user=deriver, at=NOW)


def test_only_a_published_datanet_is_derived_from(parent, deriver) -> None:
    source = first_version(derive_and_freeze(parent, deriver))
    with pytest.raises(DatanetError) as refusal:
        derive(source, deriver)
    assert refusal.value.code == "SOURCE"


def derive_and_freeze(parent: Datanet, deriver) -> Datanet:
    child = derive(first_version(parent), deriver)
    publish_version(datanet=child, acting_user=deriver, at=NOW)
    return child


def test_a_person_derives_in_the_browser_and_sees_what_passes_on(client, parent, deriver) -> None:
    url = reverse("datanets:derive", args=[parent.slug, 1])
    assert client.get(url).status_code == 302
    client.force_login(deriver)
    page = client.get(url).content.decode()
    assert "10 %" in page
    assert "CC0-1.0:" not in page
    assert client.post(url, CARD | {"licence": "CC0-1.0"}).status_code == 422
    answer = client.post(url, CARD)
    child = Datanet.objects.get(owner=deriver)
    assert answer.url == child.get_absolute_url()
    card = client.get(child.get_absolute_url()).content.decode()
    assert "Derived from" in card
    assert f"{parent} v1" in card
    assert "10 %" in card
    publish(child)
    assert "Derived Datanets" in client.get(parent.get_absolute_url()).content.decode()
    assert client.put(url).status_code == 405


def test_a_program_derives_by_api(client, parent, deriver) -> None:
    url = f"/api/v1/datanets/{parent.slug}/versions/1/derive/"
    assert client.post(url, CARD, content_type="application/json").status_code in (401, 403)
    client.force_login(deriver)
    refused = client.post(url, CARD | {"licence": "CC0-1.0"}, content_type="application/json")
    assert refused.status_code == 409
    assert "attribution" in refused.content.decode()
    made = client.post(url, CARD, content_type="application/json")
    assert made.status_code == 201
    assert made.json()["derived_from"] == [
        {"datanet": parent.slug, "number": 1, "state": "PUBLISHED", "percent": 10.0}
    ]
    told = client.get(f"/api/v1/datanets/{made.json()['slug']}/").json()
    assert told["derived_from"][0]["datanet"] == parent.slug
