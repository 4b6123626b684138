"""A run starts when nothing speaks against it, and otherwise says why and what to do."""

from datetime import timedelta

import pytest
from django.core.exceptions import PermissionDenied

from accounts.models import AuditEvent, OutboxMessage
from datanets.models import Record
from datanets.services.versions import publish_version
from modelfactory import selectors
from modelfactory.errors import RunError
from modelfactory.limits import RUNS_PER_BUILDER
from modelfactory.models import Run
from modelfactory.services import drafts, runs
from modelfactory.training.recipe import Recipe, RecipeError
from tests.modelfactory import world
from tests.modelfactory.world import NOW


def start(run, user):
    return runs.start_run(run=run, acting_user=user, at=NOW)


def refusal(run, user):
    with pytest.raises(RunError) as caught:
        start(run, user)
    run.refresh_from_db()
    assert run.state == Run.State.DRAFT
    return caught.value


def test_it_queues_the_run_for_the_training_workers(draft, builder):
    run = start(draft, builder)
    assert run.state == Run.State.QUEUED
    message = OutboxMessage.objects.get(queue="train")
    assert (message.task, message.args) == ("modelfactory.tasks.execute_run", [str(run.pk)])
    assert AuditEvent.objects.filter(verb="run.started", target_id=run.pk).exists()
    assert run.estimate["records"] == 20


def test_a_second_start_is_refused(draft, builder):
    start(draft, builder)
    draft.refresh_from_db()
    with pytest.raises(RunError, match="was started"):
        start(draft, builder)
    assert OutboxMessage.objects.filter(queue="train").count() == 1


def test_it_rejects_a_stranger(draft, stranger):
    with pytest.raises(PermissionDenied):
        start(draft, stranger)


def test_a_datanet_without_enough_records_is_refused_with_the_next_step(builder, base, owner):
    few = world.version(owner, records=3, slug="few")
    run = drafts.create_run(
        name="Few",
        base_model=base,
        versions=[few],
        recipe=world.SMALL,
        acting_user=builder,
        at=NOW,
    )
    error = refusal(run, builder)
    assert error.code == "RECORDS"
    assert "3 usable records in Few are too few" in error.message
    assert "publish a version" in error.message
    assert error.url == few.datanet.get_absolute_url()


def test_records_that_cannot_be_used_do_not_count(builder, base, owner):
    net = world.datanet(owner, slug="mixed")
    empty = {"messages": [{"role": "user", "content": "Only a question"}]}
    world.add_records(net, owner, [world.question(n) for n in range(5)])
    world.add_records(net, owner, [empty | {"n": n} for n in range(20)])
    version = publish_version(datanet=net, acting_user=owner, at=NOW)
    run = drafts.create_run(
        name="Mixed",
        base_model=base,
        versions=[version],
        recipe=world.SMALL,
        acting_user=builder,
        at=NOW,
    )
    review = selectors.review(run, builder, at=NOW)
    assert [e.code for e in review.refusals] == ["RECORDS"]
    assert len(review.findings) == 20
    assert all(f.number > 0 for f in review.findings)


def test_a_run_without_data_or_base_is_refused(builder):
    run = drafts.create_draft(name="Empty", acting_user=builder, at=NOW)
    codes = {e.code for e in selectors.review(run, builder, at=NOW).refusals}
    assert codes == {"RECORDS", "BASE"}


def test_a_cutoff_beyond_the_context_is_refused(draft, builder):
    drafts.set_recipe(run=draft, recipe=Recipe(cutoff=512), acting_user=builder)
    error = refusal(draft, builder)
    assert error.code == "CUTOFF"
    assert "at most 128 tokens" in error.message


def test_a_base_that_does_not_load_cannot_be_chosen(draft, base, builder):
    base.state, base.failure_reason = "FAILED", "There are no weights."
    with pytest.raises(RunError, match="There are no weights"):
        drafts.set_base(run=draft, base_model=base, acting_user=builder)


def test_a_version_that_is_not_yours_to_use_cannot_be_chosen(draft, builder, owner):
    hidden = world.version(owner, slug="hidden")
    hidden.datanet.state = "DRAFT"
    hidden.datanet.save(update_fields=["state"])
    with pytest.raises(RunError, match="may not train"):
        drafts.set_data(run=draft, versions=[hidden], acting_user=builder)


def test_a_datanet_that_was_taken_down_meanwhile_stops_the_start(draft, builder, version):
    version.datanet.state = "TAKEN_DOWN"
    version.datanet.save(update_fields=["state"])
    assert refusal(draft, builder).code == "VERSION"


def test_licences_that_cannot_be_combined_stop_the_start(draft, builder, owner, version):
    by_sa = world.version(owner, slug="sa", licence="CC-BY-SA-4.0")
    by_nc = world.version(owner, slug="nc", licence="CC-BY-NC-4.0")
    drafts.set_data(run=draft, versions=[by_sa, by_nc], acting_user=builder)
    assert refusal(draft, builder).code == "LICENCE"


def test_a_recipe_out_of_bounds_is_refused(draft, builder):
    with pytest.raises(RecipeError):
        drafts.set_recipe(run=draft, recipe={"epochs": 0}, acting_user=builder)


def test_nobody_takes_more_places_than_the_quota(builder, base, version):
    def one_more():
        run = drafts.create_run(
            name="More",
            base_model=base,
            versions=[version],
            recipe=world.SMALL,
            acting_user=builder,
            at=NOW,
        )
        return start(run, builder)

    for _ in range(RUNS_PER_BUILDER):
        one_more()
    with pytest.raises(RunError) as caught:
        one_more()
    assert caught.value.code == "QUOTA"


def test_the_review_credits_people_by_their_records(builder, base, owner, stranger):
    net = world.datanet(owner, slug="shared")
    world.add_records(net, owner, [world.question(n) for n in range(15)])
    world.add_records(net, stranger, [world.question(n) for n in range(100, 105)])
    version = publish_version(datanet=net, acting_user=owner, at=NOW)
    run = drafts.create_run(
        name="Shared", base_model=base, versions=[version], acting_user=builder, at=NOW
    )
    credits = selectors.review(run, builder, at=NOW).credits
    assert [(c.user, c.records) for c in credits] == [(owner, 15), (stranger, 5)]


def test_the_queue_tells_its_places(builder, stranger, base, version):
    made = []
    for user, minutes in ((builder, 0), (stranger, 5)):
        run = drafts.create_run(
            name="Wait",
            base_model=base,
            versions=[version],
            recipe=world.SMALL,
            acting_user=user,
            at=NOW,
        )
        made.append(runs.start_run(run=run, acting_user=user, at=NOW + timedelta(minutes=minutes)))
    assert [selectors.queue_position(run) for run in made] == [1, 2]


def test_a_record_withdrawn_after_the_version_is_not_shown_to_the_model(draft, builder):
    entry = draft.versions.get().entries.first()
    Record.objects.filter(pk=entry.record_id).update(state="WITHDRAWN")
    review = selectors.review(draft, builder, at=NOW)
    assert review.refusals == []
    assert review.checked == 19
