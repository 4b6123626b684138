"""The owner gives those who stake on the model a part: seen by all, for later fees alone."""

from typing import Any

import pytest
from django.core.exceptions import PermissionDenied

from accounts.models import AuditEvent, User
from governance.selectors import current_parameters
from ledger.calldata import id_word
from modelfactory.errors import ModelError
from modelfactory.models import Model, Run
from modelfactory.services import publishing
from serving.terms import terms_for

from .test_publishing import NOW, made_model, publish


@pytest.fixture
def published(draft: Run, builder: User) -> Model:
    return publish(made_model(draft), builder)


def give(model: Model, points: Any, by: User) -> Model:
    return publishing.set_stakers_part(model=model, basis_points=points, acting_user=by, at=NOW)


def test_it_is_nothing_until_the_owner_says_so_and_reaches_no_earlier_hold(
    published: Model, builder: User
) -> None:
    before = terms_for(published, current_parameters())
    after = terms_for(give(published, 1_250, builder), current_parameters())
    assert (before.model_stakers_bps, after.model_stakers_bps) == (0, 1_250)
    event = AuditEvent.objects.get(verb="model.stakers_part_set")
    assert event.data == {"before": 0, "basis_points": 1_250}


@pytest.mark.parametrize("points", [-1, 10_001, 0.5, True])
def test_a_part_that_is_none_is_refused(published: Model, builder: User, points: Any) -> None:
    with pytest.raises(ModelError) as caught:
        give(published, points, builder)
    assert caught.value.code == "PART"


def test_nobody_else_sets_it(published: Model, stranger: User, staff: User, client: Any) -> None:
    for person in (stranger, staff):
        with pytest.raises(PermissionDenied):
            give(published, 1, person)
    url = f"{published.get_absolute_url()}stakers/"
    assert client.post(url, {"percent": "5"}).status_code == 302
    client.force_login(stranger)
    assert client.post(url, {"percent": "5"}).status_code in (403, 404)
    assert client.get(url).status_code == 405
    published.refresh_from_db()
    assert published.stakers_bps == 0


def test_by_api_the_owner_sets_it(
    published: Model, builder: User, stranger: User, client: Any
) -> None:
    url = f"/api/v1/models/{published.slug}/stakers/"

    def put(points: Any) -> Any:
        return client.put(url, {"basis_points": points}, content_type="application/json")

    assert put(5).status_code in (401, 403)
    client.force_login(stranger)
    assert put(5).status_code == 403
    assert client.get(url).status_code == 405
    client.force_login(builder)
    assert [put(points).status_code for points in (-1, 10_001, 0.5, "x", None)] == [400] * 5
    assert put(1_250).json()["stakers_bps"] == 1_250
    published.refresh_from_db()
    assert published.stakers_bps == 1_250


def test_everybody_sees_it_and_finds_the_pool(published: Model, builder: User, client: Any) -> None:
    client.force_login(builder)
    url = f"{published.get_absolute_url()}stakers/"
    client.post(url, {"percent": "101"})
    client.post(url, {"percent": "12.5"})
    client.logout()
    page = client.get(published.get_absolute_url()).content.decode()
    assert "<strong>12.5 %</strong>" in page
    pool = f"/staking/0x{id_word(published.pk).hex()}/"
    assert pool in page
    assert "Nobody has staked on this model yet" in client.get(pool).content.decode()
