"""The demo's sample: real text of this machine, through the services, once."""

import json
from datetime import UTC, datetime

import pytest

from accounts.models import AuditEvent, User
from config.sample.docstrings import STANDARD_LIBRARY, standard_library
from config.sample.foundation import SAMPLES, python_answers, seed_foundation
from config.sample.people import CONTRIBUTOR, LOGINS, PASSWORD, STAFF
from config.tour.people import tour_people
from datanets.models import Datanet, DatanetState, Record, RecordState
from modelfactory.models import BaseModel

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


def test_an_answer_is_the_first_paragraph_of_a_real_docstring() -> None:
    pairs = {pair.question: pair for pair in standard_library("json", 50)}
    answer = pairs["What does `json.dumps()` do in Python?"].answer
    assert answer == " ".join(json.dumps.__doc__.split("\n\n")[0].split())


def test_every_package_of_the_sample_has_something_to_say() -> None:
    for package in STANDARD_LIBRARY:
        pairs = standard_library(package, 10)
        assert len(pairs) == 10, package
        assert {pair.contributor for pair in pairs} == {package}


def test_the_same_machine_gives_the_same_pairs() -> None:
    assert standard_library("logging", 20) == standard_library("logging", 20)


def test_no_answer_is_given_twice_within_a_package() -> None:
    answers = [pair.answer for pair in standard_library("unittest", 60)]
    assert len(answers) == len(set(answers))


@pytest.fixture
def seeded(db: None) -> None:
    seed_foundation(at=NOW)


@pytest.mark.usefixtures("seeded")
def test_a_second_start_changes_nothing() -> None:
    before = (User.objects.count(), Record.objects.count(), AuditEvent.objects.count())
    assert seed_foundation(at=NOW) == []
    assert (User.objects.count(), Record.objects.count(), AuditEvent.objects.count()) == before


@pytest.mark.usefixtures("seeded")
def test_everybody_can_log_in_with_the_password_that_is_shown() -> None:
    for login in LOGINS:
        user = User.objects.get(email=login.email)
        assert user.check_password(PASSWORD)
        assert user.emailaddress_set.get().verified
        assert user.is_staff == (login is STAFF)


@pytest.mark.django_db
def test_a_tour_before_the_demo_leaves_logins_that_work() -> None:
    made = {user.pk for user in tour_people().values()}
    seed_foundation(at=NOW)
    for login in LOGINS:
        user = User.objects.get(email=login.email)
        assert user.pk in made
        assert user.check_password(PASSWORD)
        assert user.emailaddress_set.get().verified


@pytest.mark.usefixtures("seeded")
def test_a_builder_finds_the_starter_model_at_once() -> None:
    assert BaseModel.objects.ready().get().slug == "starter"


@pytest.mark.usefixtures("seeded")
def test_there_are_records_in_every_state_that_a_reviewer_meets() -> None:
    datanet = python_answers()
    assert datanet is not None
    assert datanet.state == DatanetState.PUBLISHED
    sample = SAMPLES[0]
    states = Record.objects.filter(datanet=datanet)
    assert states.filter(state=RecordState.PENDING).count() == sample.left
    assert states.filter(state=RecordState.REJECTED).count() == sample.rejected
    assert states.filter(state=RecordState.ACCEPTED).count() > 200


@pytest.mark.usefixtures("seeded")
def test_the_named_contributor_has_records_of_their_own() -> None:
    own = Record.objects.filter(contributor__handle=CONTRIBUTOR.handle, state=RecordState.ACCEPTED)
    assert own.count() > 20


@pytest.mark.usefixtures("seeded")
def test_staff_have_a_datanet_to_decide_on() -> None:
    assert Datanet.objects.filter(state=DatanetState.IN_REVIEW).count() == 1
