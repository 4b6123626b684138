"""A query whose SQL is kept finds what the query itself finds."""

from datetime import UTC, datetime, timedelta
from threading import Thread
from uuid import uuid4

import pytest
from django.db import connection

from accounts import api_keys
from accounts.compiled import Compiled
from accounts.models import ApiKey, User

AT = datetime(2026, 3, 1, tzinfo=UTC)

of_user = Compiled(lambda user: ApiKey.objects.select_related("user").filter(user=user))
names_since = Compiled(
    lambda user, since: (
        ApiKey.objects.filter(user=user, expires_at__gt=since)
        .order_by("name")
        .values_list("name", "spend_cap")
    )
)


@pytest.fixture
def people(db):
    found = []
    for name in ("anna", "ben"):
        user = User.objects.create_user(f"{name}@example.org", handle=name)
        for number in range(2):
            api_keys.create_key(
                user=user,
                name=f"{name}{number}",
                acting_user=user,
                at=AT,
                expires_at=AT + timedelta(days=number),
                limits=api_keys.Limits(spend_cap=10**30),
            )
        found.append(user)
    return found


def test_it_finds_the_objects_of_each_value_with_their_relations(people, django_assert_num_queries):
    for user in people:
        with django_assert_num_queries(1):
            found = of_user(user=user.pk)
            assert {one.user.handle for one in found} == {user.handle}
        plain = {one.pk: one for one in ApiKey.objects.filter(user=user)}
        assert {one.pk: one for one in found} == plain
        for one in found:
            for field in ApiKey._meta.concrete_fields:
                assert getattr(one, field.attname) == getattr(plain[one.pk], field.attname)


def test_what_it_found_can_be_saved(people):
    [one, _] = of_user(user=people[0].pk)
    one.name = "another"
    one.save(update_fields=["name"])
    assert ApiKey.objects.get(pk=one.pk).name == "another"


def test_it_finds_rows_by_values_of_several_kinds(people):
    anna, ben = people
    assert names_since.rows(user=anna.pk, since=AT) == [("anna1", 10**30)]
    earlier = AT - timedelta(days=1)
    assert names_since.rows(since=earlier, user=ben.pk) == [("ben0", 10**30), ("ben1", 10**30)]
    assert names_since.rows(user=uuid4(), since=earlier) == []


def test_a_key_is_known_until_it_expires(people):
    _, secret = api_keys.create_key(
        user=people[0], name="k", acting_user=people[0], at=AT, expires_at=AT + timedelta(hours=1)
    )
    assert api_keys.authenticate(secret, at=AT).user == people[0]
    assert api_keys.authenticate(secret, at=AT + timedelta(hours=2)) is None


@pytest.mark.django_db(transaction=True)
def test_each_thread_asks_on_its_own_connection():
    user = User.objects.create_user("anna@example.org", handle="anna")
    api_keys.create_key(user=user, name="k", acting_user=user, at=AT)
    seen: list[str] = []

    def ask() -> None:
        seen.extend(one.name for one in of_user(user=user.pk))
        connection.close()

    for thread in [Thread(target=ask) for _ in range(3)]:
        thread.start()
        thread.join()
    assert seen == ["k", "k", "k"]


def test_a_value_that_the_query_does_not_hold_is_an_error(db):
    with pytest.raises(TypeError, match="does not stand"):
        Compiled(lambda user, name: ApiKey.objects.filter(user=user))(user=uuid4(), name="k")
    with pytest.raises(TypeError, match="NoneType"):
        Compiled(lambda user: ApiKey.objects.filter(user=user))(user=None)


def test_what_it_is_not_made_for_is_an_error(people):
    user = people[0].pk
    names = Compiled(lambda user: ApiKey.objects.filter(user=user).values_list("name"))
    with pytest.raises(TypeError, match="gives rows"):
        names(user=user)
    with pytest.raises(TypeError, match="gives rows"):
        of_user.rows(user=user)
    with pytest.raises(TypeError, match="needs a value"):
        names.rows(user=None)
    with pytest.raises(TypeError, match="needs a value"):
        names.rows(user=user, name="k")
    with pytest.raises(TypeError, match="prefetches"):
        Compiled(lambda user: User.objects.filter(pk=user).prefetch_related("api_keys"))(user=user)
    with pytest.raises(TypeError, match="by values_list"):
        Compiled(lambda user: User.objects.filter(pk=user).values("handle")).rows(user=user)


def test_a_value_is_never_read_as_sql(people):
    named = Compiled(lambda name: ApiKey.objects.filter(name=name))
    assert [one.name for one in named(name="anna0")] == ["anna0"]
    assert named(name="' OR 1 = 1 --") == []
    assert named(name="%s %(name)s {0}") == []


def test_what_never_changes_is_written_out_for_partial_indexes():
    compiled = Compiled(lambda email: User.objects.filter(email=email, handle="a 'quoted' one"))
    made = compiled._make({"email": "a@b.c"})
    assert "'a ''quoted'' one'" in made.sql
    assert made.sql.count("$") == 1
