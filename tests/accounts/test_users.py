"""People are told apart by e-mail without regard to case; named contributors cannot sign in."""

import re
from datetime import UTC, datetime

import pytest
from django.contrib.auth import authenticate
from django.db import IntegrityError

from accounts.models import AuditEvent, User, Wallet, users
from accounts.services.people import unclaimed_contributor

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
pytestmark = pytest.mark.django_db


def test_an_email_is_taken_whatever_its_case() -> None:
    User.objects.create_user("Ada@openledger.test", "correct horse battery")
    with pytest.raises(IntegrityError):
        User.objects.create_user("ada@OPENLEDGER.test", "correct horse battery")


def test_a_handle_tells_nothing_of_the_email() -> None:
    made = [User.objects.create_user(f"ada@{n}.test", "correct horse battery") for n in range(3)]
    assert len({user.handle for user in made}) == 3
    assert all(re.fullmatch(r"person-[a-z0-9]{8}", user.handle) for user in made)


def test_a_given_handle_is_kept() -> None:
    user = User.objects.create_user("a@b.test", "correct horse battery", handle="ada")
    assert User.objects.get(pk=user.pk).handle == "ada"


def test_who_loses_the_race_for_a_handle_gets_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    User.objects.create_user("ada@one.test", "correct horse battery", handle="person-a")
    monkeypatch.setattr(users, "random_names", lambda stem: iter(["person-a", "person-b"]))
    look, seen = User.objects.is_handle_taken, list[str]()

    def too_early(handle: str) -> bool:
        seen.append(handle)
        return len(seen) > 1 and look(handle)

    monkeypatch.setattr(User.objects, "is_handle_taken", too_early)
    second = User.objects.create_user("ada@two.test", "correct horse battery")
    assert (second.handle, seen) == ("person-b", ["person-a", "person-a", "person-b"])
    assert User.objects.get(email="ada@two.test") == second


def test_a_named_contributor_is_made_once_and_cannot_sign_in() -> None:
    owner = User.objects.create_user("owner@openledger.test", "correct horse battery")
    made = [
        unclaimed_contributor(
            namespace="neurology", name="Treatment Notes", acting_user=owner, at=NOON
        )
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert made[0].handle == "neurology-treatment-notes"
    assert not made[0].is_active
    assert not made[0].has_usable_password()
    assert authenticate(email="", password="") is None
    assert AuditEvent.objects.filter(verb="user.named").count() == 1


def test_a_person_who_took_the_handle_is_not_the_named_contributor() -> None:
    owner = User.objects.create_user("owner@openledger.test", "correct horse battery")
    squatter = User.objects.create_user(
        "eve@openledger.test", "correct horse battery", handle="neurology-ann", display_name="Eve"
    )
    ann = [named(owner, "neurology", "Ann") for _ in range(2)]
    assert ann[0] == ann[1] != squatter
    assert (ann[0].kind, ann[0].display_name) == ("UNCLAIMED", "Ann")
    assert ann[0].handle.startswith("neurology-ann-")
    squatter.refresh_from_db()
    assert (squatter.kind, squatter.display_name) == ("PERSON", "Eve")


def test_names_whose_letters_run_together_stay_apart() -> None:
    owner = User.objects.create_user("owner@openledger.test", "correct horse battery")
    wanted = [("a", "b c"), ("a-b", "c"), ("a", "C"), ("a", "C#"), ("a", "李"), ("a", "x" * 300)]
    first = [named(owner, *each) for each in wanted]
    assert len({user.pk for user in first}) == len(wanted)
    assert [named(owner, *each) for each in wanted] == first
    assert all(len(user.handle) <= 100 for user in first)


def named(owner: User, namespace: str, name: str) -> User:
    return unclaimed_contributor(namespace=namespace, name=name, acting_user=owner, at=NOON)


def test_an_address_belongs_to_one_person_whatever_its_case() -> None:
    address = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    one = User.objects.create_user("one@openledger.test", "correct horse battery")
    two = User.objects.create_user("two@openledger.test", "correct horse battery")
    Wallet.objects.create(user=one, address=address)
    with pytest.raises(IntegrityError):
        Wallet.objects.create(user=two, address=address.lower())
