"""Deploying: by whom, where, at what price, and what becomes of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts import leases, pages
from accounts.models import AuditEvent, Notification, OutboxMessage
from modelfactory.models import BaseModel, Model
from serving.errors import NotDeployable, NoWorker, UnknownModel
from serving.models import Deployment, DeploymentState
from serving.selectors import usable_deployment
from serving.services import deployments
from tests.modelfactory import world
from tests.serving.conftest import beat

pytestmark = pytest.mark.django_db


def deploy(**given):
    return deployments.deploy(**{"at": timezone.now(), **given})


def test_a_model_brings_its_base_along(make_model, live_worker, builder):
    made = deploy(model=make_model(), acting_user=builder)
    assert made.name == "builder-tuned"
    assert made.state == DeploymentState.REQUESTED
    assert (made.input_price, made.output_price) == (10**12, 2 * 10**12)
    assert Deployment.objects.get(model=None).name == "starter"
    queued = OutboxMessage.objects.filter(task="serving.tasks.load")
    assert {message.queue for message in queued} == {"generate.starter"}
    assert {message.args[0] for message in queued} == {
        str(one.pk) for one in Deployment.objects.all()
    }
    assert AuditEvent.objects.filter(verb="deployment.requested", actor=builder).count() == 2


def test_it_is_refused_with_the_reason_where_no_worker_serves_the_base(make_model, builder):
    model = make_model()
    with pytest.raises(NoWorker, match=r"No live worker serves OpenLedger Starter.*generate.start"):
        deploy(model=model, acting_user=builder)
    beat("generate.other")
    beat(ago=3600)
    with pytest.raises(NoWorker):
        deploy(model=model, acting_user=builder)
    assert not Deployment.objects.exists()


def test_a_stranger_cannot_deploy_a_model_and_only_staff_a_base(
    make_model, base, live_worker, stranger, staff
):
    with pytest.raises(NotDeployable, match="Only the owner"):
        deploy(model=make_model(), acting_user=stranger)
    with pytest.raises(NotDeployable, match="by staff"):
        deploy(base_model=base, acting_user=stranger)
    assert deploy(base_model=base, acting_user=staff, input_price=5).input_price == 5


def test_what_was_taken_down_or_does_not_load_is_not_deployed(
    make_model, live_worker, builder, base
):
    with pytest.raises(NotDeployable, match="taken down"):
        deploy(model=make_model("gone", state=Model.State.TAKEN_DOWN), acting_user=builder)
    other = make_model("other")
    BaseModel.objects.update(state=BaseModel.State.FAILED)
    other.base_model.refresh_from_db()
    with pytest.raises(NotDeployable, match="is not ready"):
        deploy(model=other, acting_user=builder)


def test_deploying_again_while_it_lives_changes_nothing(tuned, builder):
    before = OutboxMessage.objects.count()
    again = deploy(model=tuned.model, input_price=7, acting_user=builder)
    assert (again.pk, again.state, again.input_price) == (tuned.pk, "LIVE", 10**12)
    assert OutboxMessage.objects.count() == before


def test_stopping_and_deploying_again(tuned, builder, stranger):
    with pytest.raises(NotDeployable):
        deployments.stop(deployment=tuned, acting_user=stranger, at=timezone.now())
    deployments.stop(deployment=tuned, acting_user=builder, at=timezone.now())
    with pytest.raises(UnknownModel):
        usable_deployment(name=tuned.name, user=builder)
    again = deploy(model=tuned.model, input_price=9, acting_user=builder)
    assert (again.pk, again.state, again.input_price) == (tuned.pk, "REQUESTED", 9)
    assert deployments.mark_live(deployment_id=tuned.pk, at=timezone.now())
    assert usable_deployment(name=tuned.name, user=builder) == tuned


def test_prices_are_set_by_the_owner_within_limits(tuned, builder, stranger):
    given = {"deployment": tuned, "input_price": 3, "output_price": 0, "at": timezone.now()}
    with pytest.raises(NotDeployable, match="Only the owner"):
        deployments.set_prices(**given, acting_user=stranger)
    deployments.set_prices(**given, acting_user=builder)
    tuned.refresh_from_db()
    assert (tuned.input_price, tuned.output_price) == (3, 0)
    assert AuditEvent.objects.get(verb="deployment.priced").data["before"]["input"] == str(10**12)
    for price in (-1, 2**256):
        with pytest.raises(NotDeployable, match="A price is"):
            deployments.set_prices(**{**given, "input_price": price}, acting_user=builder)


def test_a_model_of_non_commercial_records_is_deployed_without_a_price(
    make_model, live_worker, builder
):
    model = make_model(input_price=0, output_price=0)
    version = world.version(builder, slug="nc", licence="CC-BY-NC-4.0")
    model.run.run_versions.create(version=version)
    with pytest.raises(NotDeployable, match="commercially"):
        deploy(model=model, output_price=1, acting_user=builder)
    made = deploy(model=model, acting_user=builder)
    assert (made.input_price, made.output_price) == (0, 0)
    given = {"deployment": made, "acting_user": builder, "at": timezone.now()}
    with pytest.raises(NotDeployable, match="commercially"):
        deployments.set_prices(**given, input_price=1, output_price=0)
    deployments.set_prices(**given, input_price=0, output_price=0)


def test_a_model_names_the_page_with_its_price_while_it_is_in_service(tuned, builder):
    assert pages.url("deployment_of_model", tuned.model_id) == tuned.get_absolute_url()
    deployments.stop(deployment=tuned, acting_user=builder, at=timezone.now())
    assert pages.url("deployment_of_model", tuned.model_id) == ""


def test_what_a_worker_could_not_load_is_stopped_and_its_owner_told(
    make_model, live_worker, builder
):
    made = deploy(model=make_model(), acting_user=builder)
    deployments.refuse(deployment_id=made.pk, reason="q_proj is not finite.", at=timezone.now())
    made.refresh_from_db()
    assert (made.state, made.failure_reason) == ("STOPPED", "q_proj is not finite.")
    assert Notification.objects.get(user=builder).body == "q_proj is not finite."
    assert not deployments.mark_live(deployment_id=made.pk, at=timezone.now())


def test_a_lost_worker_is_asked_again_and_given_up_after_three_times(
    make_model, live_worker, builder, settings
):
    made = deploy(model=make_model(), acting_user=builder)
    at = timezone.now()
    for attempt in range(1, settings.WORK_ATTEMPTS + 1):
        at += settings.WORK_LEASE + timedelta(seconds=1)
        leases.sweep(at=at)
        made.refresh_from_db()
        assert (made.state, made.attempts) == ("REQUESTED", attempt)
    leases.sweep(at=at + settings.WORK_LEASE + timedelta(seconds=1))
    made.refresh_from_db()
    assert made.state == "STOPPED"
    assert "stopped answering" in made.failure_reason


def test_a_draft_answers_its_owner_alone_and_a_taken_down_model_nobody(
    tuned, builder, stranger, staff
):
    Model.objects.update(state=Model.State.DRAFT)
    assert usable_deployment(name=tuned.name, user=builder)
    with pytest.raises(UnknownModel):
        usable_deployment(name=tuned.name, user=stranger)
    assert tuned not in Deployment.objects.visible_to(stranger)
    Model.objects.update(state=Model.State.TAKEN_DOWN)
    for person in (builder, stranger, staff):
        with pytest.raises(UnknownModel):
            usable_deployment(name=tuned.name, user=person)
