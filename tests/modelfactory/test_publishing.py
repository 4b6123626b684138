"""A model is published and priced by its owner, and taken down by staff with a statement."""

import copy

import pytest
from django.core.exceptions import PermissionDenied

from accounts import pages
from accounts.models import AuditEvent, Notification
from modelfactory import signing
from modelfactory.errors import ModelError
from modelfactory.models import Model
from modelfactory.services import drafts, publishing
from tests.modelfactory import world
from tests.modelfactory.world import NOW, made_model


@pytest.fixture
def model(draft):
    return made_model(draft)


def publish(model, user, **extra):
    return publishing.publish_model(model=model, acting_user=user, at=NOW, **extra)


def test_its_owner_publishes_it_with_a_price(model, builder, stranger):
    assert not Model.objects.visible_to(stranger).exists()
    published = publish(model, builder, input_price=5, output_price=7, summary="Doors.")
    assert (published.state, published.input_price, published.output_price) == ("PUBLISHED", 5, 7)
    assert Model.objects.visible_to(stranger).get() == model
    assert AuditEvent.objects.filter(verb="model.published").exists()


def test_nobody_else_publishes_it(model, stranger, staff):
    for user in (stranger, staff):
        with pytest.raises(PermissionDenied):
            publish(model, user)


@pytest.mark.parametrize("price", [-1, 10**18 + 1])
def test_a_price_out_of_bounds_is_refused(model, builder, price):
    with pytest.raises(ModelError) as caught:
        publish(model, builder, input_price=price)
    assert caught.value.code == "PRICE"


def test_non_commercial_records_leave_no_price(draft, builder, owner):
    version = world.version(owner, slug="nc", licence="CC-BY-NC-4.0")
    drafts.set_data(run=draft, versions=[version], acting_user=builder)
    model = made_model(draft)
    with pytest.raises(ModelError) as caught:
        publish(model, builder, input_price=1)
    assert caught.value.code == "LICENCE"
    assert publish(model, builder, input_price=0, output_price=0).state == "PUBLISHED"


def test_staff_take_it_down_with_a_statement(model, builder, staff):
    publish(model, builder)
    with pytest.raises(ModelError):
        publishing.take_down_model(model=model, statement=" ", acting_user=staff, at=NOW)
    publishing.take_down_model(model=model, statement="Rights.", acting_user=staff, at=NOW)
    model.refresh_from_db()
    assert (model.state, model.statement) == ("TAKEN_DOWN", "Rights.")
    assert Notification.objects.filter(user=builder, body="Rights.").exists()
    with pytest.raises(ModelError):
        publish(model, builder)


def test_a_changed_manifest_does_not_verify(model):
    assert signing.verify(model.manifest)
    forged = copy.deepcopy(model.manifest)
    forged["manifest"]["versions"][0]["records"] += 1
    assert not signing.verify(forged)
    assert not signing.verify({})


def test_a_manifest_survives_the_database(model):
    fresh = Model.objects.get(pk=model.pk)
    assert signing.verify(fresh.manifest)


def test_its_page_tells_the_suggested_price_from_the_one_of_its_deployment(
    model, builder, as_user, monkeypatch
):
    monkeypatch.setitem(pages._builders, "deployment_of_model", lambda pk: "")
    page = as_user(builder).get(model.get_absolute_url()).content.decode()
    assert "Suggested price" in page
    assert "not deployed" in page
    monkeypatch.setitem(pages._builders, "deployment_of_model", lambda pk: f"/in-service/{pk}/")
    page = as_user(builder).get(model.get_absolute_url()).content.decode()
    assert f'<a href="/in-service/{model.pk}/">as its deployment says</a>' in page
