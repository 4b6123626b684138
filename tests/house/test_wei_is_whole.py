"""Wei is an `int` in Python and a string of digits in JSON, everywhere and to the last digit.

Decimal rounds at 28 digits, floats at 16, and JavaScript reads numbers as floats: a walk over all
models, aggregates, the API's schema, answers, files and forms finds where wei would pass through.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django import forms
from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, connection, models, transaction
from django.db.models import F, Max, Min, Sum, Value
from django.test import Client
from django.urls import reverse
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework import serializers

from accounts.amounts import open_text, parse_open
from accounts.fields import WEI_LIMIT, WeiField, WeiSerializerField
from accounts.templatetags.money import open_amount
from governance.forms import GovernedField
from governance.registry import GOVERNED, Unit
from ledger.models import Account, ChainWallet, PayoutAddress
from ledger.services.opening import account_for
from modelfactory.forms import OpenAmountField
from tests.ledger.books import FIRST, NOON, capture, earn, fund, hold_for, link, person, publish

ROOT = Path(__file__).resolve().parents[2]
APPS = (
    "accounts", "ledger", "governance", "datanets", "modelfactory", "attribution", "serving",
    "config",
)  # fmt: skip
# Where Decimal may be named: to refuse it, or for percentages and what is shifted exactly.
DECIMAL = {
    "accounts/amounts.py", "accounts/fields.py", "governance/forms.py", "governance/words.py",
    "ledger/forms.py", "modelfactory/forms.py",
}  # fmt: skip
# Names that money has in one place and a plain number in another: (schema, property).
PLAIN = {
    ("Index", "total"), ("MergedBody", "weight"), ("Parent", "weight"), ("RunVersion", "weight"),
    ("VersionBody", "weight"), ("BlendedAdapterBody", "weight"), ("Retrieval", "total"),
}  # fmt: skip
# No money: a blend's weights and density are kept as whole millionths before anything is priced.
NUMBERS = {
    ("Ancestor", "percent"), ("ModelAncestor", "percent"), ("Index", "seconds"),
    ("BlendBody", "density"), ("BlendedAdapterBody", "weight"),
}  # fmt: skip
SAFE_INTEGER = 2**53 - 1
HUGE = 2**255 + 12345678901234567890123456789
near_the_limit = st.integers(2**254, 2**255 + 2**200)
amounts = st.one_of(st.integers(1, WEI_LIMIT - 1), near_the_limit, st.just(WEI_LIMIT - 1))
in_one_transaction = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def wei_fields() -> list[WeiField]:
    return [
        field
        for model in apps.get_models(include_auto_created=True)
        for field in model._meta.get_fields()
        if isinstance(field, WeiField)
    ]


def told(field: models.Field[Any, Any]) -> str:
    return f"{field.model.__name__}.{field.name}"


# ---------------------------------------------------------------------- models


def test_every_column_of_wei_is_numeric_78_0_and_no_other_column_could_hold_money() -> None:
    fields = wei_fields()
    assert len(fields) > 60
    assert {field.db_type(connection) for field in fields} == {"numeric(78,0)"}
    inexact = {
        told(field)
        for model in apps.get_models(include_auto_created=True)
        for field in model._meta.get_fields()
        if isinstance(field, models.FloatField | models.DecimalField)
    }
    assert inexact == {
        f"{name}.seconds" for name in ("Index", "IndexPart", "PastIndex", "SpanIndex")
    }


@pytest.mark.django_db
def test_the_tables_have_these_columns() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name || '.' || column_name, numeric_precision, numeric_scale "
            "FROM information_schema.columns "
            "WHERE table_schema = current_schema() AND data_type = 'numeric'"
        )
        columns = {name: (precision, scale) for name, precision, scale in cursor.fetchall()}
    wanted = {f"{one.model._meta.db_table}.{one.column}" for one in wei_fields()}
    assert set(columns) == wanted
    assert set(columns.values()) == {(78, 0)}


@pytest.mark.parametrize("aggregate", [Sum, Max, Min])
def test_aggregates_and_sums_of_every_field_are_read_as_wei(aggregate: Any) -> None:
    for field in wei_fields():
        query = field.model._base_manager.annotate(found=aggregate(field.name)).query
        assert isinstance(query.annotations["found"].output_field, WeiField), told(field)
        query = field.model._base_manager.annotate(found=F(field.name) + F(field.name)).query
        assert isinstance(query.annotations["found"].output_field, WeiField), told(field)


def test_no_module_makes_a_decimal_or_an_average_of_money() -> None:
    found = set()
    for path in (file for app in APPS for file in (ROOT / app).rglob("*.py")):
        name, text = str(path.relative_to(ROOT)), path.read_text()
        if not any(word in text for word in ("decimal", "Avg", "StdDev", "Variance")):
            continue
        for node in ast.walk(ast.parse(text)):
            modules = [one.name for one in getattr(node, "names", [])]
            if isinstance(node, ast.ImportFrom):
                modules.append(node.module or "")
            if "decimal" in modules or {"Avg", "StdDev", "Variance"} & set(modules):
                found.add(name)
    assert found == DECIMAL


@pytest.mark.django_db
@in_one_transaction
@given(values=st.lists(amounts, min_size=1, max_size=4))
def test_what_is_written_is_read_to_the_last_digit(values: list[int]) -> None:
    rows = ChainWallet.objects.filter(chain_id=77)
    rows.delete()
    ChainWallet.objects.bulk_create(
        ChainWallet(chain_id=77, address=f"0x{number}", balance=value)
        for number, value in enumerate(values)
    )
    read = list(rows.order_by("address").values_list("balance", flat=True))
    found = rows.aggregate(
        whole=Sum("balance"), most=Max("balance"), least=Min("balance"), some=Sum(F("balance") - 1)
    )
    assert read == values
    assert [type(one) for one in (*read, *found.values())] == [int] * (len(values) + 4)
    whole = sum(values)
    assert found == {
        "whole": whole, "most": max(values), "least": min(values), "some": whole - len(values),
    }  # fmt: skip
    assert rows.filter(balance=values[0]).exists()
    rows.update(balance=F("balance") - values[0])
    assert rows.order_by("address").first().balance == 0  # type: ignore[union-attr]
    assert rows.annotate(more=F("balance") + values[0]).order_by("address")[0].more == values[0]


@pytest.mark.django_db
@pytest.mark.parametrize("value", [WEI_LIMIT, -WEI_LIMIT, 10**100, 1.0, 0.5, True, "1.5", "x"])
def test_what_is_no_wei_is_refused_before_the_database(value: Any) -> None:
    for field in wei_fields():
        with pytest.raises(ValidationError):
            field.get_prep_value(value)


@pytest.mark.django_db
def test_the_database_refuses_what_the_code_would_let_through() -> None:
    account = account_for(Account.Kind.USER, person("payer").pk)
    table = connection.ops.quote_name(Account._meta.db_table)
    for statement, value in (
        (f"UPDATE {table} SET balance = %s WHERE id = %s", str(10**78)),
        (f"UPDATE {table} SET balance = %s WHERE id = %s", str(WEI_LIMIT)),
    ):
        with (
            pytest.raises((DataError, IntegrityError)),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement, [value, account.pk])
    with pytest.raises(IntegrityError), transaction.atomic():
        PayoutAddress.objects.create(address=FIRST, published=2**128)


# ---------------------------------------------------------------------- the API's schema


def properties(node: Any, name: str = "") -> Iterator[tuple[str, str, dict[str, Any]]]:
    if isinstance(node, dict):
        for key, one in (node.get("properties") or {}).items():
            yield name, key, one
        for key, one in node.items():
            yield from properties(one, name or str(key))
    elif isinstance(node, list):
        for one in node:
            yield from properties(one, name)


def test_the_schema_calls_wei_a_string_of_digits_and_nothing_a_number() -> None:
    schema: Any = SchemaGenerator().get_schema(request=None, public=True)
    components = schema["components"]["schemas"]
    names = {field.name for field in wei_fields()}
    seen = 0
    for parts in (components, schema["paths"]):
        for owner, name, one in properties(parts):
            while "$ref" in one:
                one = components[one["$ref"].split("/")[-1]]
            if one.get("type") == "number":
                assert (owner, name) in NUMBERS
            if name in names and (owner, name) not in PLAIN:
                assert one.get("type") == "string", (owner, name, one)
                seen += 1
    assert seen > 60


@given(value=st.integers(0, WEI_LIMIT - 1))
def test_json_has_every_digit(value: int) -> None:
    field = WeiSerializerField()
    text = json.loads(json.dumps({"amount": field.to_representation(value)}))["amount"]
    assert field.to_internal_value(text) == value


@pytest.mark.parametrize(
    "value", [1, 1.0, True, None, "-1", "1.0", "1e18", "", "٣", str(WEI_LIMIT), "9" * 5000]
)
def test_the_api_refuses_what_is_no_string_of_digits_below_the_limit(value: Any) -> None:
    with pytest.raises(serializers.ValidationError):
        WeiSerializerField().to_internal_value(value)


# ---------------------------------------------------------------------- answers, pages, files


def exact(text: str) -> Any:
    """JSON without a number that JavaScript would round."""

    def whole(digits: str) -> int:
        assert abs(int(digits)) <= SAFE_INTEGER, digits
        return int(digits)

    def broken(digits: str) -> float:
        raise AssertionError(f"{digits} is no whole number")

    return json.loads(text, parse_int=whole, parse_float=broken)


@pytest.fixture
def rich(db: None, settings: Any) -> Any:
    """Somebody with more than half of all the wei that can be: held, spent, earned, published."""
    settings.CHAIN_ENABLED = False
    user = person("rich")
    fund(user, HUGE)
    capture(hold_for(user, 2**200 + 7), 2**200 + 3)
    hold_for(user, 2**199 + 1)
    link(user, FIRST)
    earn(user, 2**120 + 1)
    publish()
    earn(user, 2**119 + 1, 1)
    return user


LISTS = (
    "balance", "deposits", "distributions", "earnings", "earnings-entries",
    "earnings-groups", "earnings-waiting", "holds", "intents", "statements",
    "withdrawals", "stake-pools",
)  # fmt: skip


def test_answers_have_every_digit_and_no_number_that_a_browser_would_round(
    rich: Any, client: Client
) -> None:
    client.force_login(rich)
    for name in LISTS:
        answer = client.get(reverse(f"api-{name}"))
        assert answer.status_code == 200, name
        exact(answer.content.decode())
    spendable = HUGE - (2**200 + 3) - (2**199 + 1)
    balance = exact(client.get(reverse("api-balance")).content.decode())
    assert str(spendable) in balance.values()
    account = account_for(Account.Kind.USER, rich.pk)
    found = exact(client.get(reverse("api-account", args=[account.pk])).content.decode())
    assert found["balance"] == str(spendable)
    payout = exact(client.get(reverse("api-payout", args=[FIRST])).content.decode())
    assert payout["published"] == str(2**120 + 1)


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
def test_pages_and_files_show_every_digit(rich: Any, client: Client) -> None:
    client.force_login(rich)
    account = account_for(Account.Kind.USER, rich.pk)
    shown = client.get(reverse("ledger:account", args=[account.pk])).content.decode()
    assert open_amount(HUGE) in shown
    month = f"{NOON:%Y-%m}"
    spendable = HUGE - (2**200 + 3) - (2**199 + 1)
    for address, digits in (
        (reverse("ledger:statement_csv", args=[month]), spendable),
        (reverse("ledger:earnings_csv"), 2**119 + 1),
        (reverse("ledger:holds_csv"), 2**199 + 1),
    ):
        answer = client.get(address)
        assert answer.status_code == 200
        text = b"".join(answer).decode()
        assert str(digits) in text or open_text(digits) in text, address


def test_what_is_kept_and_sent_on_as_json_is_exact_as_well(rich: Any) -> None:
    seen = set()
    for field in (
        field
        for model in apps.get_models()
        for field in model._meta.get_fields()
        if isinstance(field, models.JSONField)
    ):
        names = [connection.ops.quote_name(n) for n in (field.column, field.model._meta.db_table)]
        with connection.cursor() as cursor:
            cursor.execute("SELECT {}::text FROM {}".format(*names))
            for (text,) in cursor.fetchall():
                if text:
                    exact(text)
                    seen.add(told(field))
    assert {"AuditEvent.data", "Hold.terms"} <= seen, seen


# ---------------------------------------------------------------------- people's words


@given(value=amounts)
def test_open_as_people_read_and_write_it_is_exact_both_ways(value: int) -> None:
    assert parse_open(open_text(value)) == value
    assert parse_open(open_amount(value).replace(",", "")) == value
    assert "e" not in open_amount(value).lower()


@given(value=st.integers(0, WEI_LIMIT - 1))
def test_a_price_that_is_typed_into_a_form_is_exact(value: int) -> None:
    field = OpenAmountField()
    assert field.clean(field.prepare_value(value)) == value
    assert type(field.clean(open_text(value))) is int


@given(value=st.integers(0, WEI_LIMIT - 1))
def test_a_governed_amount_that_is_typed_into_a_form_is_exact(value: int) -> None:
    some = next(iter(GOVERNED.values()))
    wide = replace(some, unit=Unit.WEI, default=1, low=0, high=WEI_LIMIT - 1)
    field = GovernedField(wide)
    assert field.clean(field.typed(value)) == value


def test_a_form_refuses_more_than_there_can_be() -> None:
    with pytest.raises((ValidationError, forms.ValidationError)):
        OpenAmountField().clean(open_text(WEI_LIMIT))
    assert Value(HUGE, output_field=WeiField()).output_field.to_python(str(HUGE)) == HUGE
