"""The terms of a fee come from the families of its model and its Datanets as they stand."""

import pytest

from datanets.models import Datanet
from datanets.services.derivation import derive_datanet
from datanets.services.versions import publish_version
from governance.selectors import current_parameters
from ledger.fees import Terms
from modelfactory.models import BaseModel, Model, Run, RunVersion
from serving.terms import terms_for
from tests.modelfactory.world import NOW, add_records, datanet, person, question

pytestmark = pytest.mark.django_db


@pytest.fixture
def base() -> BaseModel:
    return BaseModel.objects.create(slug="tiny", name="Tiny", state="READY", origin="tiny")


def model_on(version, base: BaseModel, owner, slug: str = "tuned") -> Model:
    run = Run.objects.create(builder=owner, name=slug, state="SUCCEEDED", base_model=base)
    RunVersion.objects.create(run=run, version=version)
    return Model.objects.create(
        slug=slug, name=slug, run=run, owner=owner, base_model=base, state="PUBLISHED",
        adapter_sha256="0" * 64, adapter_config={}, manifest={}, manifest_sha256="0" * 64,
    )  # fmt: skip


@pytest.fixture
def derived():
    """A published Datanet with a version that was derived from another."""
    parent = datanet(person("owner"))
    add_records(parent, person("alice"), [question(n) for n in range(3)])
    source = publish_version(datanet=parent, acting_user=parent.owner, at=NOW)
    child = derive_datanet(
        version=source, acting_user=person("deriver"), at=NOW, name="Warm", summary="Some.",
        licence="CC-BY-4.0",
    )  # fmt: skip
    return parent, publish_version(datanet=child, acting_user=child.owner, at=NOW)


def test_a_bare_base_model_has_the_split_alone() -> None:
    parameters = current_parameters()
    assert terms_for(None, parameters) == Terms.of_split(parameters.split)


def test_a_model_on_a_derived_datanet_passes_its_credits_on(base, derived) -> None:
    parent, version = derived
    model = model_on(version, base, person("builder"))
    terms = terms_for(model, current_parameters())
    assert terms.model_owner == model.owner_id
    (royalty,) = terms.passing_of(version.datanet_id).royalties
    assert (royalty.source_id, royalty.owner_id) == (parent.pk, parent.pk)
    assert 10 * royalty.weight == terms.passing_of(version.datanet_id).whole
    assert terms.passing_of(parent.pk).royalties == ()


def test_a_parent_that_was_taken_down_gets_nothing_of_new_fees(base, derived) -> None:
    parent, version = derived
    model = model_on(version, base, person("builder"))
    Datanet.objects.filter(pk=parent.pk).update(state="TAKEN_DOWN")
    assert terms_for(model, current_parameters()).datanets == ()
